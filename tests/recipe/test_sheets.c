/* How many bytes images take as PNG and WebP: what cannot be compressed is not, what repeats is, and sheets hold all images. */
#include "recipe/media/sheets.h"
#include "tests/test.h"

enum { SIDE = 20, N = 7 };

typedef struct sizes {
    uint64_t png, webp;            /* webp 0: libwebp is not installed */
} sizes;

static sizes sizes_of(pith_ctx *ctx, const uint8_t *x, size_t n, size_t columns)
{
    pith_sheets sheets = {.x = x, .n = n, .height = SIDE, .width = SIDE, .columns = columns};
    sizes s = {0};
    bool there;
    assert_ok(ctx, pith_sheets_png(ctx, &sheets, &s.png));
    assert_ok(ctx, pith_sheets_webp(ctx, &sheets, &there, &s.webp));
    assert_true(there == (s.webp != 0));
    return s;
}

static void test_sizes(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static uint8_t noise[N * SIDE * SIDE], same[N * SIDE * SIDE];
    pith_rng rng = {.seed = 1};
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)pith_rng_u32(&rng);
    for (size_t i = 0; i < sizeof same; i++) same[i] = noise[i % (SIDE * SIDE)];
    sizes one = sizes_of(ctx, noise, 1, 1), sheet = sizes_of(ctx, noise, 4, 2), files = sizes_of(ctx, noise, 4, 1), odd = sizes_of(ctx, noise, N, 2), repeated = sizes_of(ctx, same, N, 2);
    const uint64_t *all[][5] = {{&one.png, &sheet.png, &files.png, &odd.png, &repeated.png}, {&one.webp, &sheet.webp, &files.webp, &odd.webp, &repeated.webp}};
    for (size_t k = 0; k < 2; k++) {
        if (!*all[k][0]) continue;
        uint64_t area = SIDE * SIDE;
        assert_in_range(*all[k][0], area, area + 200);
        assert_in_range(*all[k][1], 4 * area, 4 * area + 400);
        assert_true(*all[k][2] > *all[k][1]); /* four headers */
        assert_in_range(*all[k][3], N * area, N * area + 1000);
        assert_in_range(*all[k][4], area, 4 * area + 400); /* an image is stored once in each sheet, but for what cannot be found again */
    }
    pith_ctx_free(ctx);
}

static void test_wrong_sheets(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint64_t len;
    uint8_t x = 0;
    const pith_sheets wrong[] = {{.x = &x, .n = 0, .height = 1, .width = 1, .columns = 1}, {.x = &x, .n = 1, .height = 1, .width = 1}, {.x = &x, .n = 1, .height = 1, .width = 1, .columns = 20000}};
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) assert_int_equal(pith_sheets_png(ctx, &wrong[i], &len), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_wrong_sheets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
