/* The two-level class table, from runs of code points: 256 characters a page, equal pages of one class shared. */
#include "text/unicode.h"

#include "text/unicode_ranges.h"

pith_status pith_unicode_init(pith_ctx *ctx, pith_arena *arena, pith_unicode *u)
{
    uint8_t (*pages)[256] = pith_arena_take(arena, 256 * sizeof *pages);
    if (!pages) return PITH_E_MEMORY;
    int flat[256]; /* page whose 256 characters all have this class; -1: none yet */
    memset(flat, -1, sizeof flat);
    size_t run = 0;
    int n_pages = 0;
    for (uint32_t page = 0; page < PITH_CODE_POINTS >> 8; page++) {
        uint32_t first = page << 8, last = first + 255;
        if (run + 1 < PITH_COUNT(unicode_runs) && unicode_runs[run + 1].first == first) run++;
        uint8_t bits = unicode_runs[run].bits;
        bool is_flat = run + 1 == PITH_COUNT(unicode_runs) || unicode_runs[run + 1].first > last;
        if (is_flat && flat[bits] >= 0) {
            u->page_of[page] = (uint8_t)flat[bits];
            continue;
        }
        if (n_pages == 256) return pith_fail(ctx, PITH_E_INTERNAL, "unicode: more than 256 different pages of character classes");
        for (uint32_t c = first; c <= last; c++) {
            if (run + 1 < PITH_COUNT(unicode_runs) && unicode_runs[run + 1].first == c) run++;
            pages[n_pages][c & 255] = unicode_runs[run].bits;
        }
        if (is_flat) flat[bits] = n_pages;
        u->page_of[page] = (uint8_t)n_pages++;
    }
    u->pages = pages;
    memcpy(u->ascii, pages[u->page_of[0]], 128);
    return PITH_OK;
}
