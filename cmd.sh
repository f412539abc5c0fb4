# How jobs reach machines: the one file that a site edits. Sourced by run.sh; a variable of the environment wins.
#
# Each value is a launcher with its options, called as
#   $cmd [--mem 4G] [--gpu 1] [--num-threads 2] [--max-jobs-run 8] JOB=1:N log/x.JOB.log command args...
#
#   run.py    starts the jobs on this machine, as many at a time as it has CPUs (or GPUs)
#   slurm.py  submits them to Slurm;         edit conf/slurm.conf: partitions, memory, GPUs
#   sge.py    submits them to Grid Engine;   edit conf/sge.conf: queues, memory, GPUs
# For instance, on a cluster with Slurm, here or in the environment:
#   export train_cmd="slurm.py --mem 4G" extract_cmd="slurm.py --mem 4G" cuda_cmd="slurm.py --mem 32G --time 24:00:00"
# Any launcher with Kaldi's command line works as well (queue.pl, slurm.pl).
# A job on a cluster inherits only PATH, goes to the folder it was sent from and sources path.sh there.
# shellcheck shell=bash
export train_cmd="${train_cmd:-run.py}"     # CPU work: preparation, scoring, back ends
export extract_cmd="${extract_cmd:-run.py}" # embedding extraction, split into JOB=1:nj
export cuda_cmd="${cuda_cmd:-run.py}"       # training; comes with --gpu N
