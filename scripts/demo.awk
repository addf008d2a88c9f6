# Shows results (JSON lines, one DeliveryResult each): mode=live prints a line for each beyond line `from`, mode=table a
# row for each delivery with its attempts and how it ended.

# The value of a key. Inside strings quotes are escaped, so the pattern cannot match there.
function value(key,    found) {
    if (!match($0, "\"" key "\":(\"[^\"]*\"|[0-9]+)")) return ""
    found = substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
    gsub(/"/, "", found)
    return found
}

{
    event = value("event"); subscription = value("subscription_id"); attempt = value("attempt")
    outcome = value("outcome"); state = value("document_state"); error = value("error"); status = value("status_code")
    if (subscription == "") subscription = "-"
    # One that was made over the API has a UUID.
    if (length(subscription) > 12) subscription = substr(subscription, 1, 8) "..."
    said = error == "" ? status : (error == "status" ? status : error)
}

mode == "live" && NR > from {
    printf "  %-18s -> %-12s attempt %-2s %-15s %s\n", event, subscription, attempt, outcome, said
}

mode == "table" {
    row = event SUBSEP subscription
    if (!(row in seen)) { seen[row] = 1; order[++rows] = row }
    tried[row] = tried[row] (tried[row] == "" ? "" : ", ") (said == "" || said == "0" ? "-" : said)
    if (attempt + 0 > attempts[row]) attempts[row] = attempt
    if (outcome != "attempt_failed") { ended[row] = outcome; states[row] = state }
}

END {
    if (mode != "table") exit
    format = "  %-18s %-13s %8s  %-36s %-13s %s\n"
    printf format, "event", "subscription", "attempts", "answers", "outcome", "state"
    for (i = 1; i <= rows; i++) {
        split(order[i], names, SUBSEP)
        printf format, names[1], names[2], attempts[order[i]] + 0, tried[order[i]], ended[order[i]], states[order[i]]
    }
}
