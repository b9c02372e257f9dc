/* Builds small files byte by byte, so that tests can make valid ones and break any field of them. */
#ifndef PITH_MAKER_H
#define PITH_MAKER_H

#include "files.h"

typedef struct maker {
    uint8_t *p;
    size_t n, cap;
} maker;

static inline void *make_room(maker *m, size_t n)
{
    if (m->n + n > m->cap) {
        m->cap = (m->n + n) * 2;
        m->p = realloc(m->p, m->cap);
        assert_non_null(m->p);
    }
    void *at = m->p + m->n;
    m->n += n;
    return at;
}

static inline void make_bytes(maker *m, const void *data, size_t n) { memcpy(make_room(m, n), data, n); }
static inline void make_u8(maker *m, uint8_t v) { make_bytes(m, &v, 1); }
static inline void make_u32(maker *m, uint32_t v) { pith_put32(make_room(m, 4), v); }
static inline void make_u64(maker *m, uint64_t v) { pith_put64(make_room(m, 8), v); }
static inline void make_f32(maker *m, float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    make_u32(m, u);
}
/* u64 length and bytes, as GGUF has it */
static inline void make_str(maker *m, const char *s)
{
    make_u64(m, strlen(s));
    make_bytes(m, s, strlen(s));
}
static inline void make_pad(maker *m, size_t alignment)
{
    while (m->n % alignment) make_u8(m, 0);
}
static inline void make_free(maker *m)
{
    free(m->p);
    *m = (maker){0};
}

#endif
