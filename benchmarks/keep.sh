# For scripts that run `fieldmark compare`: finished runs are kept in the repository, so that a table goes on in a fresh
# clone. use: source keep.sh; keep WORK_FOLDER KEPT
keep() {
  work_folder=$1 kept=$2
  mkdir -p "$work_folder" "$kept"
  # a folder with nothing but an empty one inside would not be taken for a comparison's
  [[ -e $work_folder/results || -z $(ls -A "$kept") ]] || ln -s "$kept" "$work_folder/results"
  trap '[[ -L $work_folder/results ]] || cp -n "$work_folder"/results/*.json "$kept"/' EXIT
}
