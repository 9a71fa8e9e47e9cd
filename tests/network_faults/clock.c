/* Preloaded into a worker: its wall clock is off by as many seconds as the file in CLOCK_OFF_BY says at that time. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *file;

__attribute__((constructor)) static void begin(void) {
    char line[4096] = {0};
    int self = open("/proc/self/cmdline", O_RDONLY);
    ssize_t count = read(self, line, sizeof line - 1);
    close(self);
    /* The driver's clock is right. */
    if (count > 0 && memmem(line, (size_t)count, "local-worker", 12))
        file = getenv("CLOCK_OFF_BY");
}

static time_t off_by(void) {
    char text[32] = {0};
    int from;
    if (!file || (from = open(file, O_RDONLY)) < 0)
        return 0;
    ssize_t count = read(from, text, sizeof text - 1);
    close(from);
    return count > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += off_by();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *also) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (also)
        *also = exact.tv_sec;
    return exact.tv_sec;
}
