/* Optical flow by block matching. */
#ifndef PITH_FLOW_H
#define PITH_FLOW_H

#include "base/base.h"

/** For each block of a picture, where it came from in the one before: the displacement of up to `range` pixels each way with the
 *  least sum of absolute differences, of equals the shortest.  Blocks that would come from outside are not looked for there.
 *  before, now  [channels, height, width]
 *  flow         [height / block, width / block, 2]: right, down; pixels beyond the last whole block are left out
 *  thread: pure */
void pith_flow_match(const uint8_t *before, const uint8_t *now, size_t channels, size_t height, size_t width, size_t block, int range, int8_t *flow);
/** The same as a picture [3, height, width]: right and down as 128 + 127 d / range, and the length, 255 at the longest. */
void pith_flow_picture(const int8_t *flow, size_t height, size_t width, size_t block, int range, uint8_t *picture);

#endif
