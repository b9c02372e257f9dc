/* UTF-8 and the classes of characters that tokenizers ask for, by table. */
#ifndef PITH_TEXT_UNICODE_H
#define PITH_TEXT_UNICODE_H

#include "base/base.h"

/* Bits of a character's class.  Letters, numbers and spaces are those of Unicode 16 (\p{L}, \p{N}, White_Space);
 * those of BERT are
 * Unicode 8's and the marks Unicode 9's, as in the PyPI package `tokenizers`, whose ids they shall give. */
enum {
    PITH_CHAR_LETTER = 1,
    PITH_CHAR_NUMBER = 2,
    PITH_CHAR_SPACE = 4,
    PITH_CHAR_PUNCT = 8,       /* BERT's punctuation: P*, and the ASCII symbols */
    PITH_CHAR_ACCENT = 16,     /* BERT's Mn */
    PITH_CHAR_CONTROL = 32,    /* BERT's Cc, Cf, Co without \t \n \r */
    PITH_CHAR_MARK = 64,       /* StripAccents' \p{M} */
    PITH_CHAR_NFC = 128        /* may change, or combine with what is before it, under NFC */
};

#define PITH_CODE_POINTS 0x110000u
#define PITH_REPLACEMENT 0xFFFDu

typedef struct pith_unicode {
    uint8_t ascii[128];
    uint8_t page_of[PITH_CODE_POINTS >> 8];
    uint8_t (*pages)[256];
} pith_unicode;

/** Fill the table (45 kB, from the arena; about 0.1 ms). */
pith_status pith_unicode_init(pith_ctx *ctx, pith_arena *arena, pith_unicode *u);

static inline unsigned pith_char_class(const pith_unicode *u, uint32_t c) { return u->pages[u->page_of[c >> 8]][c & 255]; }

/** One character at p < end.  Returns its bytes (1..4) and its code point; a byte that does not begin valid
 *  UTF-8 (RFC 3629: no overlong forms, no surrogates) is one byte long and reads as U+FFFD. */
static inline size_t pith_utf8_next(const uint8_t *p, const uint8_t *end, uint32_t *c)
{
    uint32_t a = p[0];
    size_t left = (size_t)(end - p);
    if (a < 0x80) {
        *c = a;
        return 1;
    }
    if (a >= 0xC2 && a < 0xE0 && left >= 2 && (p[1] & 0xC0) == 0x80) {
        *c = (a & 31) << 6 | (p[1] & 63u);
        return 2;
    }
    if (a >= 0xE0 && a < 0xF0 && left >= 3 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80) {
        uint32_t v = (a & 15) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
        if (v >= 0x800 && (v < 0xD800 || v >= 0xE000)) {
            *c = v;
            return 3;
        }
    }
    if (a >= 0xF0 && a < 0xF5 && left >= 4 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80 && (p[3] & 0xC0) == 0x80) {
        uint32_t v = (a & 7) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
        if (v >= 0x10000 && v < PITH_CODE_POINTS) {
            *c = v;
            return 4;
        }
    }
    *c = PITH_REPLACEMENT;
    return 1;
}

/** Class and length of the character at p < end.  An invalid byte has class 0, as U+FFFD has. */
static inline unsigned pith_class_at(const pith_unicode *u, const uint8_t *p, const uint8_t *end, size_t *n)
{
    if (*p < 0x80) {
        *n = 1;
        return u->ascii[*p];
    }
    uint32_t c;
    *n = pith_utf8_next(p, end, &c);
    return pith_char_class(u, c);
}

/** Bytes of c (1..4) into dst; c is below PITH_CODE_POINTS. */
static inline size_t pith_utf8_put(uint32_t c, uint8_t *dst)
{
    if (c < 0x80) {
        dst[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (uint8_t)(0xC0 | c >> 6);
        dst[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        dst[0] = (uint8_t)(0xE0 | c >> 12);
        dst[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        dst[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    dst[0] = (uint8_t)(0xF0 | c >> 18);
    dst[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    dst[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    dst[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

#endif
