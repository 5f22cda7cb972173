/*
 * Makes system calls of the program fail, return short, or return a different time.
 *
 * POLYLOOP_FAULTS is a list of rules, separated by commas:
 *
 *     CALL:errno=NUMBER:FIRST:COUNT   the calls from FIRST on, COUNT of them, fail with that errno
 *     CALL:every=NUMBER:NTH           every NTH call fails with that errno
 *     CALL:short=BYTES                no call moves more than BYTES
 *     clock_gettime:step=NS:FIRST     from the call FIRST on, the monotonic clock differs by NS
 *
 * FIRST counts from 1. A failing call is not executed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum call {
    ACCEPT4, CONNECT, SOCKET, RECV, SEND, READ, WRITE, READV, WRITEV, SENDMSG, RECVMSG,
    EPOLL_CREATE1, EPOLL_CTL, EPOLL_WAIT, EPOLL_PWAIT2, EVENTFD, POLL, PPOLL, SELECT, PSELECT,
    CLOCK_GETTIME, ACCEPT, SENDMMSG, RECVMMSG, SPLICE, SENDFILE, N_CALLS
};

static const char *const names[N_CALLS] = {
    "accept4", "connect", "socket", "recv", "send", "read", "write", "readv", "writev", "sendmsg",
    "recvmsg", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait2", "eventfd", "poll",
    "ppoll", "select", "pselect", "clock_gettime", "accept", "sendmmsg", "recvmmsg", "splice",
    "sendfile"
};

struct rule {
    long error, first, count, nth, step, count_made;
    size_t max;
};

static struct rule rules[N_CALLS];

static void refuse(const char *rule) {
    fprintf(stderr, "POLYLOOP_FAULTS: cannot read the rule \"%s\"\n", rule);
    _exit(101);
}

__attribute__((constructor)) static void read_rules(void) {
    const char *text = getenv("POLYLOOP_FAULTS");
    if (!text) return;
    char *copy = strdup(text), *state = NULL;
    for (char *rule = strtok_r(copy, ",", &state); rule; rule = strtok_r(NULL, ",", &state)) {
        char name[32], kind[16];
        long value, a = 0, b = 0;
        if (sscanf(rule, "%31[^:]:%15[^=]=%ld:%ld:%ld", name, kind, &value, &a, &b) < 3)
            refuse(rule);
        int call = 0;
        while (call < N_CALLS && strcmp(names[call], name)) call++;
        if (call == N_CALLS) refuse(rule);
        struct rule *r = &rules[call];
        if (!strcmp(kind, "errno")) r->error = value, r->first = a, r->count = b;
        else if (!strcmp(kind, "every")) r->error = value, r->nth = a;
        else if (!strcmp(kind, "short")) r->max = (size_t)value;
        else if (!strcmp(kind, "step")) r->step = value, r->first = a;
        else refuse(rule);
    }
    free(copy);
}

/* Counts a call. Returns true, with errno set, if it has to fail. */
static int fails(enum call call) {
    struct rule *r = &rules[call];
    if (!r->error) return 0;
    long number = __atomic_add_fetch(&r->count_made, 1, __ATOMIC_RELAXED);
    int hit = r->nth ? number % r->nth == 0
                     : number >= r->first && number < r->first + r->count;
    if (hit) errno = (int)r->error;
    return hit;
}

static size_t shorten(enum call call, size_t len) {
    size_t max = rules[call].max;
    return max && len > max ? max : len;
}

static void *next(enum call call, const char *name) {
    static void *found[N_CALLS];
    void *function = __atomic_load_n(&found[call], __ATOMIC_ACQUIRE);
    if (!function) {
        function = dlsym(RTLD_NEXT, name);
        __atomic_store_n(&found[call], function, __ATOMIC_RELEASE);
    }
    return function;
}

#define NEXT(call, name, type) ((type)next(call, name))

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    if (fails(ACCEPT4)) return -1;
    return NEXT(ACCEPT4, "accept4", int (*)(int, struct sockaddr *, socklen_t *, int))(fd, addr, len, flags);
}

int accept(int fd, struct sockaddr *addr, socklen_t *len) {
    if (fails(ACCEPT)) return -1;
    return NEXT(ACCEPT, "accept", int (*)(int, struct sockaddr *, socklen_t *))(fd, addr, len);
}

int connect(int fd, const struct sockaddr *addr, socklen_t len) {
    if (fails(CONNECT)) return -1;
    return NEXT(CONNECT, "connect", int (*)(int, const struct sockaddr *, socklen_t))(fd, addr, len);
}

int socket(int domain, int type, int protocol) {
    if (fails(SOCKET)) return -1;
    return NEXT(SOCKET, "socket", int (*)(int, int, int))(domain, type, protocol);
}

ssize_t recv(int fd, void *buf, size_t len, int flags) {
    if (fails(RECV)) return -1;
    size_t max = shorten(RECV, len);
    ssize_t n = NEXT(RECV, "recv", ssize_t (*)(int, void *, size_t, int))(fd, buf, max, flags);
    if (n > 0 && (size_t)n < len && (size_t)n == max) {
        /* As if more data had just arrived: this raises a new edge, which an edge-triggered selector
         * needs after a short read. */
        int error = errno, one = 1;
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
        errno = error;
    }
    return n;
}

ssize_t send(int fd, const void *buf, size_t len, int flags) {
    if (fails(SEND)) return -1;
    size_t max = shorten(SEND, len);
    ssize_t n = NEXT(SEND, "send", ssize_t (*)(int, const void *, size_t, int))(fd, buf, max, flags);
    if (n > 0 && (size_t)n < len) {
        /* As if the buffer had just become writable. */
        int error = errno, bytes = 1 << 16;
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        errno = error;
    }
    return n;
}

ssize_t read(int fd, void *buf, size_t len) {
    if (fails(READ)) return -1;
    return NEXT(READ, "read", ssize_t (*)(int, void *, size_t))(fd, buf, shorten(READ, len));
}

ssize_t write(int fd, const void *buf, size_t len) {
    if (fails(WRITE)) return -1;
    return NEXT(WRITE, "write", ssize_t (*)(int, const void *, size_t))(fd, buf, shorten(WRITE, len));
}

ssize_t readv(int fd, const struct iovec *iov, int n) {
    if (fails(READV)) return -1;
    return NEXT(READV, "readv", ssize_t (*)(int, const struct iovec *, int))(fd, iov, (int)shorten(READV, (size_t)n));
}

ssize_t writev(int fd, const struct iovec *iov, int n) {
    if (fails(WRITEV)) return -1;
    return NEXT(WRITEV, "writev", ssize_t (*)(int, const struct iovec *, int))(fd, iov, (int)shorten(WRITEV, (size_t)n));
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags) {
    if (fails(SENDMSG)) return -1;
    return NEXT(SENDMSG, "sendmsg", ssize_t (*)(int, const struct msghdr *, int))(fd, msg, flags);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags) {
    if (fails(RECVMSG)) return -1;
    return NEXT(RECVMSG, "recvmsg", ssize_t (*)(int, struct msghdr *, int))(fd, msg, flags);
}

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags) {
    if (fails(SENDMMSG)) return -1;
    return NEXT(SENDMMSG, "sendmmsg", int (*)(int, struct mmsghdr *, unsigned, int))(fd, msgs, n, flags);
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout) {
    if (fails(RECVMMSG)) return -1;
    return NEXT(RECVMMSG, "recvmmsg", int (*)(int, struct mmsghdr *, unsigned, int, struct timespec *))(fd, msgs, n, flags, timeout);
}

ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned flags) {
    if (fails(SPLICE)) return -1;
    return NEXT(SPLICE, "splice", ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned))(from, from_at, to, to_at, len, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t len) {
    if (fails(SENDFILE)) return -1;
    static ssize_t (*real)(int, int, off64_t *, size_t);
    if (!real) real = (ssize_t (*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64");
    return real(to, from, at, len);
}

ssize_t sendfile(int to, int from, off_t *at, size_t len) {
    if (fails(SENDFILE)) return -1;
    return NEXT(SENDFILE, "sendfile", ssize_t (*)(int, int, off_t *, size_t))(to, from, at, len);
}

int epoll_create1(int flags) {
    if (fails(EPOLL_CREATE1)) return -1;
    return NEXT(EPOLL_CREATE1, "epoll_create1", int (*)(int))(flags);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
    if (fails(EPOLL_CTL)) return -1;
    return NEXT(EPOLL_CTL, "epoll_ctl", int (*)(int, int, int, struct epoll_event *))(epfd, op, fd, event);
}

int epoll_wait(int epfd, struct epoll_event *events, int n, int timeout) {
    if (fails(EPOLL_WAIT)) return -1;
    return NEXT(EPOLL_WAIT, "epoll_wait", int (*)(int, struct epoll_event *, int, int))(epfd, events, n, timeout);
}

int eventfd(unsigned initial, int flags) {
    if (fails(EVENTFD)) return -1;
    return NEXT(EVENTFD, "eventfd", int (*)(unsigned, int))(initial, flags);
}

int poll(struct pollfd *fds, nfds_t n, int timeout) {
    if (fails(POLL)) return -1;
    return NEXT(POLL, "poll", int (*)(struct pollfd *, nfds_t, int))(fds, n, timeout);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
    if (fails(PPOLL)) return -1;
    return NEXT(PPOLL, "ppoll", int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))(fds, n, timeout, mask);
}

int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout) {
    if (fails(SELECT)) return -1;
    return NEXT(SELECT, "select", int (*)(int, fd_set *, fd_set *, fd_set *, struct timeval *))(n, r, w, e, timeout);
}

int pselect(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout, const sigset_t *mask) {
    if (fails(PSELECT)) return -1;
    return NEXT(PSELECT, "pselect", int (*)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))(n, r, w, e, timeout, mask);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = NEXT(CLOCK_GETTIME, "clock_gettime", int (*)(clockid_t, struct timespec *))(clock, time);
    struct rule *r = &rules[CLOCK_GETTIME];
    if (r->step && clock == CLOCK_MONOTONIC && result == 0
        && __atomic_add_fetch(&r->count_made, 1, __ATOMIC_RELAXED) >= r->first) {
        long long ns = time->tv_sec * 1000000000LL + time->tv_nsec + r->step;
        if (ns < 0) ns = 0;
        time->tv_sec = ns / 1000000000LL;
        time->tv_nsec = ns % 1000000000LL;
    }
    return result;
}

/* Some calls are made by number, where older C libraries have no name for them. */
long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
#ifdef SYS_epoll_pwait2
    if (number == SYS_epoll_pwait2 && fails(EPOLL_PWAIT2)) return -1;
#endif
    static long (*real)(long, ...);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, a, b, c, d, e, f);
}
