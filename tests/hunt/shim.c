/* Fails or kills a process at its nth call of an operation on files below a folder.
 *
 * Loaded by LD_PRELOAD; armed by hunt_arm() or, in processes that are started, by the variable
 * HUNT_ARM=OPERATION:NTH:ERRNO:LASTING:FOLDER. ERRNO 0 means SIGKILL. OPERATION "change" is any call
 * that changes a file. A write that is killed has written half before. HUNT_CLOCK shifts the clock,
 * seconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char operation[16], folder[PATH_MAX];
static long nth, number;
static int lasting, armed;
static atomic_long calls;

void hunt_arm(const char *what, long when, long error, int lasts, const char *where) {
    snprintf(operation, sizeof operation, "%s", what);
    snprintf(folder, sizeof folder, "%s", where);
    nth = when, number = error, lasting = lasts, armed = 1;
    atomic_store(&calls, 0);
}

long hunt_calls(void) { return calls; }

__attribute__((constructor)) static void from_environment(void) {
    char *told = getenv("HUNT_ARM"), what[16], where[PATH_MAX];
    long when, error;
    int lasts;
    if (told && sscanf(told, "%15[^:]:%ld:%ld:%d:%4000s", what, &when, &error, &lasts, where) == 5)
        hunt_arm(what, when, error, lasts, where);
}

static int below(int directory, const char *path) {
    char whole[2 * PATH_MAX] = "", link[64];
    if (path == NULL || path[0] != '/') {
        snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d",
                 directory);
        ssize_t n = syscall(SYS_readlink, link, whole, PATH_MAX - 1);
        if (n < 0) return 0;
        whole[n] = '/', whole[n + 1] = 0;
    }
    if (path) strncat(whole, path, PATH_MAX - 1);
    return strncmp(whole, folder, strlen(folder)) == 0;
}

/* Whether this call is to fail; a call that is to be killed does not come back. */
static int struck(const char *what, int changes, int directory, const char *path) {
    if (!armed) return 0;
    if (strcmp(operation, what) && !(changes && !strcmp(operation, "change"))) return 0;
    int before = errno;
    if (!below(directory, path)) { errno = before; return 0; }
    long call = atomic_fetch_add(&calls, 1) + 1;
    errno = before;
    if (call != nth && !(lasting && call > nth)) return 0;
    if (number == 0) return 2;
    errno = number;
    return 1;
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) syscall(SYS_pause); }

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define STRIKE(what, changes, directory, path) \
    switch (struck(what, changes, directory, path)) { case 2: die(); case 1: return -1; }

#define WRITE(name, type, ...)                                              \
    switch (struck("write", 1, fd, NULL)) {                                 \
    case 2: if (size > 1) real(fd, data, size / 2, ##__VA_ARGS__); die();   \
    case 1: return -1; }                                                    \
    return real(fd, data, size, ##__VA_ARGS__);

ssize_t write(int fd, const void *data, size_t size) { REAL(write); WRITE(write, ssize_t) }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); WRITE(pwrite64, ssize_t, at) }
ssize_t writev(int fd, const struct iovec *data, int n) { REAL(writev); STRIKE("write", 1, fd, NULL) return real(fd, data, n); }
ssize_t read(int fd, void *data, size_t size) { REAL(read); STRIKE("read", 0, fd, NULL) return real(fd, data, size); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) { REAL(pread64); STRIKE("read", 0, fd, NULL) return real(fd, data, size, at); }
ssize_t preadv64(int fd, const struct iovec *data, int n, off64_t at) { REAL(preadv64); STRIKE("read", 0, fd, NULL) return real(fd, data, n, at); }
int fsync(int fd) { REAL(fsync); STRIKE("fsync", 1, fd, NULL) return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); STRIKE("fsync", 1, fd, NULL) return real(fd); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); STRIKE("write", 1, fd, NULL) return real(fd, size); }
int rename(const char *from, const char *to) { REAL(rename); STRIKE("rename", 1, AT_FDCWD, to) return real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); STRIKE("rename", 1, b, to) return real(a, from, b, to); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); STRIKE("mkdir", 1, AT_FDCWD, path) return real(path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { REAL(mkdirat); STRIKE("mkdir", 1, at, path) return real(at, path, mode); }
int unlink(const char *path) { REAL(unlink); STRIKE("unlink", 1, AT_FDCWD, path) return real(path); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); STRIKE("unlink", 1, at, path) return real(at, path, flags); }
int rmdir(const char *path) { REAL(rmdir); STRIKE("unlink", 1, AT_FDCWD, path) return real(path); }

#define MODE mode_t mode = 0; if (flags & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE REAL(open); STRIKE("open", flags & O_CREAT, AT_FDCWD, path) return real(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE REAL(open64); STRIKE("open", flags & O_CREAT, AT_FDCWD, path) return real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE REAL(openat); STRIKE("open", flags & O_CREAT, at, path) return real(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE REAL(openat64); STRIKE("open", flags & O_CREAT, at, path) return real(at, path, flags, mode); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int failed = real(clock, now);
    char *shift = getenv("HUNT_CLOCK");
    if (!failed && shift && clock == CLOCK_REALTIME) now->tv_sec += atol(shift);
    return failed;
}
time_t time(time_t *there) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (there) *there = now.tv_sec;
    return now.tv_sec;
}
