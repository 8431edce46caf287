//! The objects of a lab whose objects are in a Kubernetes API: whoever asks brings them along, the lab talks to no API server.

use std::io::Read;
use std::path::Path;

use ::objects::SourceText;
use lab::Lab;

use crate::arguments::Objects;
use crate::fail::Fail;

/// What was brought along; `None` for a lab of manifests, which reads its own.
pub fn of(lab: &Lab, given: &Objects) -> Result<Option<[SourceText; 1]>, Fail> {
    match (&lab.record().kubernetes, &given.objects) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(Fail::Said("this lab reads manifests: leave --objects out, and edit the manifests".to_owned()))
        }
        (Some(_), None) => Err(Fail::Said(
            "the objects of this lab are in a Kubernetes API: give them with --objects, for example\n  kubectl get \
             nodes,namespaces,pods,services,netpol -A -o json | ferrule lab sync --objects -"
                .to_owned(),
        )),
        (Some(_), Some(path)) => {
            let text = if path == Path::new("-") {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map(|_| text)
            } else {
                std::fs::read_to_string(path)
            };
            let text = text.map_err(|error| format!("cannot read --objects {}: {error}", path.display()))?;
            Ok(Some([SourceText::new("objects.json", text)]))
        }
    }
}
