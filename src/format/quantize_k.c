/* f32 to the K types. */
#include "format/quantize.h"

pith_block_encoder *pith_encoder_k(pith_dtype dtype)
{
    (void)dtype;
    return NULL;
}
