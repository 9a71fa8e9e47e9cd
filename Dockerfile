# The operator: one static program and the CA bundle.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# -C target-feature=+crt-static reaches the program alone (docs/adr/0009-static-program.md). The caches keep what was
# compiled when a source changes; they are no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo rustc --release --locked --bin compaction-operator -- -C target-feature=+crt-static \
    && cp target/release/compaction-operator /usr/local/bin/compaction-operator

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/compaction-operator /compaction-operator
USER 65532:65532
ENTRYPOINT ["/compaction-operator"]
