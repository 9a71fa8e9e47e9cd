#!/usr/bin/env bash
# Makes the operator's image with a program that was built on this machine, loads it into a cluster, and prints its name.
# usage: image.sh DIR PROGRAM     PROGRAM: statically linked (docs/testing.md)
set -euo pipefail
shopt -s inherit_errexit

dir=$(realpath "${1:?usage: image.sh DIR PROGRAM}")
program=${2:?usage: image.sh DIR PROGRAM}
number=$(cat "$dir/number")
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
. "$here/processes.sh"
. "$here/images.sh"

# Nothing else is in the image: a program that asks for a loader would not start.
! ldd "$program" 2>/dev/null | grep -q '=>' || die "$program is linked dynamically; see docs/testing.md"
join_group
archive=$(make_operator_image "$program")
load_image "$archive"
echo "$operator_image"
