/* Another wall clock for a process: preloaded, it adds to every reading the seconds in the file HEADRACE_TEST_CLOCK, which
   may change while it runs. The clock that processes wait by stays as it is, as on a real machine whose date is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("HEADRACE_TEST_CLOCK");
    int file = name ? open(name, O_RDONLY) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (found == MAP_FAILED)
        abort();
    offset = found;
}

static int64_t off(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += off();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (into)
        *into = found.tv_sec;
    return found.tv_sec;
}

/* A deadline by the wall clock was reckoned from what is read here, and the kernel knows nothing of that. One by the
   other clock is small: seconds since the machine started. */
static struct timespec real(const struct timespec *until)
{
    struct timespec found = *until;
    if (found.tv_sec > 1000000000)
        found.tv_sec -= off();
    return found;
}

int pthread_cond_timedwait(pthread_cond_t *restrict at, pthread_mutex_t *restrict lock, const struct timespec *restrict until)
{
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec then = real(until);
    if (!next)
        next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next)
        next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return next(at, lock, &then);
}

int cnd_timedwait(cnd_t *restrict at, mtx_t *restrict lock, const struct timespec *restrict until)
{
    static int (*next)(cnd_t *, mtx_t *, const struct timespec *);
    struct timespec then = real(until);
    if (!next)
        next = dlsym(RTLD_NEXT, "cnd_timedwait");
    return next(at, lock, &then);
}

int sem_timedwait(sem_t *restrict at, const struct timespec *restrict until)
{
    static int (*next)(sem_t *, const struct timespec *);
    struct timespec then = real(until);
    if (!next)
        next = dlsym(RTLD_NEXT, "sem_timedwait");
    return next(at, &then);
}
