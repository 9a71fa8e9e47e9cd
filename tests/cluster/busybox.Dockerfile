# The sandbox of the test cluster's pods, and a shell for the tests. `build` is a directory with Debian's static busybox.
FROM scratch
COPY --from=build /bin/busybox /bin/busybox
COPY --from=build /bin/busybox /bin/sh
ENV PATH=/bin
ENTRYPOINT ["/bin/busybox", "sleep", "infinity"]
