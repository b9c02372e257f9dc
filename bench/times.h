/* Time of the clock, and of all threads of this process. */
#ifndef PITH_BENCH_TIMES_H
#define PITH_BENCH_TIMES_H

#include <time.h>

#include "base/base.h"

typedef struct times {
    double wall, cpu;
} times;

static times now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (times){pith_now_s(), (double)t.tv_sec + 1e-9 * (double)t.tv_nsec};
}

static void print_since(times start)
{
    times end = now();
    printf("{\"wall\": %.9f, \"cpu\": %.9f}\n", end.wall - start.wall, end.cpu - start.cpu);
}

#endif
