/* cue.h - what a model's cues say where its spec does not: the key is left out of a spec that has the default. */
#ifndef DROVER_CUE_H
#define DROVER_CUE_H

#define CUE_WAIT_TEXT  "Wait"
#define CUE_FINAL_TEXT "\nFinal Answer:"
/* Blank lines set it off from attempts where all is one text. */
#define CUE_REVISE_TEXT \
    "\n\nLook for mistakes in your answer above, then solve the problem again and give your final answer.\n\n"

#endif
