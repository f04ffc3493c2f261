#!/bin/bash
# PID 1, under the name it has in the AWS images. Their version also fakes the host name;
# here the container's own is algo-N already. The keys are made early, so that a launcher
# that knocks at once finds them.
make-job-keys
"$@"
