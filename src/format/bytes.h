/* Fields of a file's sections, one after the other: writing into memory that grows, and reading what may be anything. */
#ifndef PITH_FORMAT_BYTES_H
#define PITH_FORMAT_BYTES_H

#include "format/model_file.h"

typedef struct pith_writer {
    pith_ctx *ctx;
    uint8_t *data;
    size_t len, cap;
    bool failed;
} writer;

static inline uint8_t *put(writer *w, size_t n)
{
    if (w->failed) return NULL;
    if (w->cap - w->len < n) {
        size_t cap = PITH_MAX(w->cap * 2, w->len + n + 4096);
        uint8_t *grown = pith_resize(w->ctx, w->data, cap);
        if (!grown) {
            w->failed = true;
            return NULL;
        }
        w->data = grown;
        w->cap = cap;
    }
    w->len += n;
    return w->data + w->len - n;
}

static inline void put_bytes(writer *w, const void *data, size_t n)
{
    uint8_t *p = put(w, n);
    if (p && n) memcpy(p, data, n);
}
static inline void put_u8(writer *w, uint8_t v) { put_bytes(w, &v, 1); }
static inline void put_u32(writer *w, uint32_t v)
{
    uint8_t *p = put(w, 4);
    if (p) pith_put32(p, v);
}
static inline void put_f32(writer *w, float v) { put_u32(w, pith_bits_of(v)); }
/* LEB128 */
static inline void put_varint(writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) put_u8(w, (uint8_t)(v | 0x80));
    put_u8(w, (uint8_t)v);
}
static inline void put_string(writer *w, const char *s, size_t len)
{
    put_varint(w, len);
    put_bytes(w, s, len);
}

/* Reads fail by setting `bad`; what they return is then zero. */
typedef struct pith_cursor {
    const uint8_t *p, *end;
    bool bad;
} cursor;

static inline const uint8_t *get(cursor *c, size_t n)
{
    if (c->bad || (size_t)(c->end - c->p) < n) {
        c->bad = true;
        return NULL;
    }
    c->p += n;
    return c->p - n;
}
static inline uint8_t get_u8(cursor *c)
{
    const uint8_t *p = get(c, 1);
    return p ? *p : 0;
}
static inline uint32_t get_u32(cursor *c)
{
    const uint8_t *p = get(c, 4);
    return p ? pith_le32(p) : 0;
}
static inline float get_f32(cursor *c) { return pith_float_of(get_u32(c)); }
static inline uint64_t get_varint(cursor *c)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b = get_u8(c);
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return v;
    }
    c->bad = true;
    return 0;
}
static inline pith_str get_string(cursor *c)
{
    uint64_t len = get_varint(c);
    const uint8_t *p = len <= SIZE_MAX ? get(c, (size_t)len) : NULL;
    return (pith_str){p ? (const char *)p : "", p ? (size_t)len : 0};
}
/* A count of things of at least `each` bytes: no more than there can be. */
static inline size_t get_count(cursor *c, size_t each)
{
    uint64_t n = get_varint(c);
    if (n > (uint64_t)(c->end - c->p) / each) {
        c->bad = true;
        return 0;
    }
    return (size_t)n;
}

#endif
