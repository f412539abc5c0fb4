# Options of stages 3 to 9, the same in every recipe, with their defaults: sourced by steps/verification.sh and by each
# run.sh, which sets other defaults after it.
# shellcheck shell=bash disable=SC2034
stage=3 # first and last stage to run; what is up to date is left alone
stop_stage=9
again=false               # true: the stage that --stage names is done again from its start, though it is finished
conf=conf/rawnext.yaml    # YAML files of the system, merged from left to right
set=                      # single options over them, such as "optim.lr=5e-4 seed=2"
init=                     # trained experiment to start from, such as exp/rawnext; empty: from new weights
seeds=                    # 3: trainings with seeds 1, 2, 3, as EXP-seed1, ..., and their mean and spread; empty: one training
teacher=                  # Kaldi scp of another network's embeddings to learn from (docs/howto/little_data.md)
durations="5 2 1"         # seconds to which the test side is cut, in addition to its full length
protocols="paper native"  # paper: averaged segments of 59,049 samples; native: true length, one pass
backends=cosine           # cosine, cosine_mean, snorm, asnorm, asnorm_speakers, asnorm_matched, lda, plda, siamese (docs/reference/backend.md)
cohort_utts=10            # utterances of each training speaker, for the back ends that need training speakers
adapt=                    # data directory of another domain, without known speakers, to adapt cosine_mean, lda and plda to; empty: none
adaptation=coral          # how: coral or plda (docs/reference/backend.md)
calibrate=all             # back ends whose scores also become LLRs (BACKEND+cal), fitted on --dev; empty: none
measures=inverse_duration # what calibration uses in addition to the score (docs/howto/calibration.md)
checksum=false            # true: stages 3 to 9 read all audio to notice changed files, in place of comparing sizes and times
ngpu=0                    # GPUs on each machine, which must have them: training processes, extraction jobs; 0: the CPU
num_nodes=1               # machines to train on, which $cuda_cmd provides (docs/howto/cluster.md)
torchrun_opts=            # options of steps/torchrun.py, such as "--max-restarts 10"
nj=$(nproc)               # parallel jobs
num_threads=0             # CPU threads for training; 0: all of this machine
num_workers=2             # data workers of each training process
