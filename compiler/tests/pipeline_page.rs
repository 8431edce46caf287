//! `docs/pipeline.md` is what the registries say.

use expect_test::expect_file;

#[test]
fn the_page_is_fresh() {
    expect_file!["../../docs/pipeline.md"].assert_eq(&compiler::pipeline_page());
}
