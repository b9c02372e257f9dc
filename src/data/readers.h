/* Readers of files that data comes in.  Each takes bytes in memory and `what`, the name for messages, checks all it
 * reads, and names the place of what is wrong: a byte offset, or the line of a text. */
#ifndef PITH_DATA_READERS_H
#define PITH_DATA_READERS_H

#include "data/data.h"
#include "format/json.h"

/* ---- arrays ----------------------------------------------------------------------------------- */

#define PITH_ARRAY_DIMS 8

typedef struct pith_values {
    pith_field_type type;
    int n_dims;
    size_t dims[PITH_ARRAY_DIMS], count;
    void *data;                        /* pith_free */
} pith_values;
void pith_values_free(pith_ctx *ctx, pith_values *values);

/** IDX, the format of MNIST (http://yann.lecun.com/exdb/mnist/): big-endian u8, i8, i16, i32, f32, f64.  Integers but u8
 *  become i32, f64 becomes f32.  @return PITH_E_FORMAT, PITH_E_CORRUPT, PITH_E_UNSUPPORTED, PITH_E_MEMORY */
pith_status pith_idx_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_values *values);
/** NPY 1.0 to 3.0 (numpy.lib.format): little-endian b1, u1, i1, u2, i2, i4, i8, u4, u8, f2, f4, f8, C order.  u1 and b1
 *  stay u8, other integers become i32 (what does not fit is an error), floats f32.  Errors as idx. */
pith_status pith_npy_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_values *values);
/** CIFAR binary (https://www.cs.toronto.edu/~kriz/cifar.html): records of n_labels (1: CIFAR-10, 2: CIFAR-100) label
 *  bytes and 3072 pixels, [3, 32, 32].  labels: u8 [n, n_labels], images: u8 [n, 3, 32, 32].
 *  @return PITH_E_CORRUPT: no whole number of records, or a label of n_classes (the last label's) or more */
pith_status pith_cifar_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, size_t n_labels, size_t n_classes, pith_values *labels, pith_values *images);

/* ---- images ----------------------------------------------------------------------------------- */

#define PITH_IMAGE_MAX_PIXELS ((size_t)1 << 26)

/* Planar u8 [3, height, width]; grey images have three equal channels. */
typedef struct pith_image {
    uint8_t *data;                     /* pith_free */
    size_t width, height;
} pith_image;
void pith_image_free(pith_ctx *ctx, pith_image *image);
/** PNG or JPEG, told by their first bytes; 8-bit sRGB, an alpha channel over black.  Damage of the pixels, also what
 *  libjpeg would patch over, is an error.  libpng and libjpeg allocate outside pith_alloc, up to about 20 bytes a pixel; images of more
 *  than PITH_IMAGE_MAX_PIXELS are refused.  @return PITH_E_FORMAT, PITH_E_CORRUPT, PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_image_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_image *image);
/** The middle square of an image at another size, each pixel the mean of the area it covers: dst [3, size, size]. */
void pith_image_square(const pith_image *image, size_t size, uint8_t *dst);

/* ---- tables and text -------------------------------------------------------------------------- */

/* Rows of CSV (RFC 4180: quotes, doubled quotes, line ends in quotes) or TSV (no quotes), one at a time. */
typedef struct pith_csv {
    pith_ctx *ctx;
    const char *what, *text;
    size_t len, at, line;              /* line: of the row last read, from 1 */
    char separator;                    /* ',' or '\t' or another; quotes count unless it is '\t' */
    char *cells_text;                  /* the row's cells, unquoted, each ended by NUL */
    size_t cap_text;
    const char **cells;
    size_t cap_cells, n_cols;          /* n_cols: of the first row, and of every one after it */
} pith_csv;
void pith_csv_begin(pith_ctx *ctx, const char *what, const char *text, size_t len, char separator, pith_csv *csv);
/** The next row; *cells NULL at the end.  Cells live until the next call.  Empty lines are passed over.
 *  @return PITH_E_CORRUPT with the line: another number of cells, an open quote, a NUL; PITH_E_MEMORY */
pith_status pith_csv_next(pith_csv *csv, const char *const **cells, size_t *n);
void pith_csv_end(pith_csv *csv);
/** A cell as a whole number in min..max; PITH_E_CORRUPT with line and column (from 1). */
pith_status pith_csv_int(const pith_csv *csv, const char *const *cells, size_t column, long min, long max, long *value);

/* JSON, one value a line. */
typedef struct pith_jsonl {
    pith_ctx *ctx;
    const char *what, *text;
    size_t len, at, line;              /* line: of the value last read, from 1 */
} pith_jsonl;
/** The next value, to be freed by cJSON_Delete; NULL at the end.  Empty lines are passed over. */
pith_status pith_jsonl_next(pith_jsonl *jsonl, cJSON **value);

/* Text that grows. */
typedef struct pith_text_buffer {
    pith_ctx *ctx;
    char *text;                        /* pith_free */
    size_t len, cap;
} pith_text_buffer;
pith_status pith_text_append(pith_text_buffer *buffer, const char *text, size_t len);
/** Prose out of a plain text: what is no UTF-8 and control bytes dropped, lines of a paragraph joined by a blank, runs of
 *  blanks made one.  Lines without letters (empty ones, rules, frames of tables) end a paragraph; an empty line follows
 *  each in the result. */
pith_status pith_text_clean(pith_text_buffer *buffer, const char *text, size_t len);

static inline bool pith_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* ---- archives --------------------------------------------------------------------------------- */

/** Bytes of a .gz (or anything libarchive can undo), up to `limit`.  *out is freed by pith_free. */
pith_status pith_gunzip(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, size_t limit, uint8_t **out, size_t *out_len);
/** Visit the files of a zip, tar, or .deb (its data) in the archive's order.  wanted NULL: all.  bytes are gone after the call.
 *  A visit that fails ends it. */
typedef struct pith_archive_visitor {
    bool (*wanted)(void *user, const char *path);
    pith_status (*file)(void *user, const char *path, const uint8_t *bytes, size_t len);
    void *user;
} pith_archive_visitor;
pith_status pith_archive_each(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, const pith_archive_visitor *visitor);

#endif
