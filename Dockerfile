# The docrelay service. Both images can be replaced: --build-arg BUILD_IMAGE=... --build-arg RUN_IMAGE=...
# The run image must have glibc no older than the build image's.
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUN_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /build

# The dependencies first, with empty sources in place of ours: this layer is rebuilt only when a manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
RUN mkdir -p src bench/src/bin benches tests/it \
    && touch src/lib.rs bench/src/lib.rs benches/matching.rs tests/it/main.rs \
    && echo 'fn main() {}' > build.rs \
    && for file in src/main.rs bench/src/main.rs bench/build.rs; do cp build.rs "$file"; done \
    && cargo build --release --locked --package docrelay \
    && rm -rf src build.rs target/release/docrelay target/release/build/docrelay-* \
        target/release/deps/docrelay-* target/release/deps/libdocrelay-* target/release/.fingerprint/docrelay-*

COPY build.rs ./
COPY proto proto
COPY config config
COPY src src
RUN cargo build --release --locked --package docrelay --bin docrelay

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title="docrelay" \
      org.opencontainers.image.description="Fans document events from RabbitMQ out to webhooks" \
      org.opencontainers.image.licenses="Apache-2.0"
# The certificate authorities that webhooks' TLS is checked against: the newest are the right ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /build/target/release/docrelay /usr/local/bin/docrelay
COPY LICENSE /usr/share/doc/docrelay/LICENSE
# The one place that docrelay writes to, if store.url names a SQLite file there. A new volume takes its owner from here.
RUN install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/docrelay
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /etc/docrelay
# The API is served at 8080 if `api.listen` says so. Health and metrics listen on loopback unless `admin.listen` says otherwise; the health check runs in the container.
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["docrelay", "healthcheck"]
ENTRYPOINT ["docrelay"]
CMD ["run"]
