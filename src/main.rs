fn main() {
    print!("{}", compaction_operator::api::crds_yaml().unwrap());
}
