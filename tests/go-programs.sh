# Sourced with a Go module as the working directory: builds programs at the versions that its go.mod pins.
# Programs live outside the tree, in ${COMPACTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/compaction-operator}/bin/NAME-VERSION.

programs=${COMPACTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/compaction-operator}/bin

# The version at which go.mod requires a module.
pinned() {
    awk -v module="$1" '$1 == "require" { $0 = $2 " " $3 } $1 == module { print $2; exit }' go.mod
}

# go_programs LDFLAGS NAME MODULE PACKAGE [NAME MODULE PACKAGE]...
# Prints the path of each program. Those that are there already are not built again; the others in one go.
go_programs() {
    ldflags=$1
    shift
    mkdir -p "$programs"
    new=$programs/$1.new
    exec 9>"$programs/$1.lock"
    flock 9 # whoever comes second waits for the first one's programs
    paths='' packages='' renames=''
    while [ $# -gt 0 ]; do
        path=$programs/$1-$(pinned "$2")
        paths="$paths$path
"
        if [ ! -x "$path" ]; then
            packages="$packages $3"
            # Go names a program by the package's last element that is no major version.
            renames="$renames$(echo "$3" | sed -E 's,/v[0-9]+$,,; s,.*/,,') $path
"
        fi
        shift 3
    done
    if [ -n "$packages" ]; then
        rm -rf "$new" # of a build that was killed
        # $packages is a list of words.
        CGO_ENABLED=0 nice go build -trimpath -ldflags "$ldflags" -o "$new/" $packages >&2
        # Renamed into place when all are whole: a build that is killed leaves no program behind.
        printf %s "$renames" | while read -r built path; do
            mv "$new/$built" "$path"
        done
        rmdir "$new"
    fi
    exec 9>&-
    printf %s "$paths"
}
