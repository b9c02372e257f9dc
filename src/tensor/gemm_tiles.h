/* Inside the products: from a number of rows and of vectors that is known when they run to constants, so that a tile's sums
 * stay in registers. */
#ifndef PITH_GEMM_TILES_H
#define PITH_GEMM_TILES_H

#define PITH_GEMM_ROWS 6 /* of a tile, at most; VECS, of the file that includes this, are its vectors: 2 or 4 */

/* name(t, n_rows, n_vecs) calls run_tile(t, n_rows, n_vecs), which is to be inlined. */
#define PITH_GEMM_TILES(name, tile_type, run_tile)                                                           \
    static inline __attribute__((always_inline)) void name##_rows(const tile_type *t, int n_rows, size_t n_vecs) \
    {                                                                                                        \
        switch (n_vecs) {                                                                                    \
        case 1: run_tile(t, n_rows, 1); break;                                                               \
        case 2: run_tile(t, n_rows, 2); break;                                                               \
        case 3: run_tile(t, n_rows, PITH_MIN(3, VECS)); break;                                               \
        case 4: run_tile(t, n_rows, PITH_MIN(4, VECS)); break;                                               \
        default: break;                                                                                      \
        }                                                                                                    \
    }                                                                                                        \
    static void name(const tile_type *t, size_t n_rows, size_t n_vecs)                                       \
    {                                                                                                        \
        switch (n_rows) {                                                                                    \
        case 1: name##_rows(t, 1, n_vecs); break;                                                            \
        case 2: name##_rows(t, 2, n_vecs); break;                                                            \
        case 3: name##_rows(t, 3, n_vecs); break;                                                            \
        case 4: name##_rows(t, 4, n_vecs); break;                                                            \
        case 5: name##_rows(t, 5, n_vecs); break;                                                            \
        case 6: name##_rows(t, 6, n_vecs); break;                                                            \
        default: break;                                                                                      \
        }                                                                                                    \
    }

#endif
