/* Distillation. */
#include "stage/tune/distill.h"

pith_var *pith_distill_loss(pith_var *student, pith_var *teacher, const int32_t *label, const pith_distill_options *o)
{
    if (!student || !teacher) return NULL;
    if (!(o->temperature > 0)) return pith_op_fail(student->tape, PITH_E_ARGUMENT, "distillation at a temperature of %g: above 0 is needed", (double)o->temperature);
    float cold = 1 / o->temperature;
    pith_var *soft = pith_var_kl(pith_var_scale(student, cold), pith_var_scale(pith_var_stop(teacher), cold));
    pith_var *sum = pith_var_scale(soft, o->weight * o->temperature * o->temperature);
    return o->weight < 1 ? pith_var_add(sum, pith_var_scale(pith_var_cross_entropy(student, label), 1 - o->weight)) : sum;
}
