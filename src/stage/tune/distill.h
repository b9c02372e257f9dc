/* Distillation: a student learns from a teacher's softened answers and from the labels (Hinton, Vinyals, Dean,
 * arXiv:1503.02531). */
#ifndef PITH_DISTILL_H
#define PITH_DISTILL_H

#include "grad/grad.h"

typedef struct pith_distill_options {
    float temperature;             /* T, above 0 */
    float weight;                  /* of the teacher, 0..1; the labels have the rest */
} pith_distill_options;

/** weight T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - weight) cross-entropy, means over rows.  student [rows,
 *  classes] and teacher of one shape; no gradient goes to the teacher. */
pith_var *pith_distill_loss(pith_var *student, pith_var *teacher, const int32_t *label, const pith_distill_options *options);

#endif
