# MinIO for the test cluster. `build` is a directory with the program that tests/servers/build.sh has built.
FROM scratch
COPY --from=build /bin/minio /bin/minio
ENTRYPOINT ["/bin/minio"]
