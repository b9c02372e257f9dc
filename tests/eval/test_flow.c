/* Block matching: pictures moved by known displacements. */
#include <math.h>

#include "eval/flow.h"
#include "test.h"

enum { SIDE = 24, BLOCK = 4, RANGE = 3, BLOCKS = SIDE / BLOCK };

/* Noise, of which every 2x2 patch is its own. */
static void make(uint8_t *picture, int dx, int dy)
{
    for (int c = 0; c < 2; c++)
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                pith_rng rng = {9, (uint64_t)c, ((uint64_t)(y - dy + 100) << 32) + (uint64_t)(x - dx + 100) * 8};
                picture[(c * SIDE + y) * SIDE + x] = (uint8_t)pith_rng_below(&rng, 256);
            }
}

static void test_moves(void **state)
{
    (void)state;
    uint8_t before[2 * SIDE * SIDE], now[2 * SIDE * SIDE], picture[3 * SIDE * SIDE];
    int8_t flow[BLOCKS * BLOCKS * 2];
    make(before, 0, 0);
    for (int dy = -RANGE; dy <= RANGE; dy++)
        for (int dx = -RANGE; dx <= RANGE; dx++) {
            make(now, dx, dy);
            pith_flow_match(before, now, 2, SIDE, SIDE, BLOCK, RANGE, flow);
            for (int y = 1; y + 1 < BLOCKS; y++) /* what came over the edge cannot be found */
                for (int x = 1; x + 1 < BLOCKS; x++) {
                    assert_int_equal(flow[(y * BLOCKS + x) * 2], dx);
                    assert_int_equal(flow[(y * BLOCKS + x) * 2 + 1], dy);
                }
            pith_flow_picture(flow, SIDE, SIDE, BLOCK, RANGE, picture);
            const uint8_t *at = picture + 9 * SIDE + 10;
            assert_int_equal(at[0], 128 + 127 * dx / RANGE);
            assert_int_equal(at[SIDE * SIDE], 128 + 127 * dy / RANGE);
            assert_true(fabs((double)at[2 * SIDE * SIDE] - 255 * hypot(dx, dy) / hypot(RANGE, RANGE)) <= 0.5);
        }
    /* of equals the shortest: nothing moves in a picture of one colour */
    memset(before, 7, sizeof before);
    pith_flow_match(before, before, 2, SIDE, SIDE, BLOCK, RANGE, flow);
    for (size_t i = 0; i < PITH_COUNT(flow); i++) assert_int_equal(flow[i], 0);
}

/* Sizes that are no multiple of a block: what is left over does not move. */
static void test_rest(void **state)
{
    (void)state;
    uint8_t picture[3 * 6 * 5], x[6 * 5] = {0};
    int8_t flow[2];
    pith_flow_match(x, x, 1, 6, 5, 4, 2, flow);
    pith_flow_picture((const int8_t[]){2, -2}, 6, 5, 4, 2, picture);
    for (int i = 0; i < 30; i++) assert_int_equal(picture[i], i / 5 < 4 && i % 5 < 4 ? 255 : 128);
    assert_int_equal(picture[30], 1);
    assert_int_equal(picture[60], 255);
    assert_int_equal(picture[89], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_moves), cmocka_unit_test(test_rest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
