//! Whose image it is: the login to the registry that the image's reference names.

use super::fields::Reader;
use crate::job::problem::Problem;
use crate::job::yaml::Node;
use crate::job::{ImageSource, SecretRef};
use crate::workload::RegistryLogin;

impl Reader {
    /// A user, and the name of the secret that holds the password. Whatever stands for the password is never shown: it may be one.
    pub(super) fn registry(
        &mut self,
        node: &Node,
        image: Option<&ImageSource>,
        secrets: &[SecretRef],
    ) -> Option<RegistryLogin> {
        let fields = self.fields(node, "registry", &["username", "password"])?;
        if !matches!(image, Some(ImageSource::Reference(_))) {
            let problem = Problem::new(node.place, "`registry` needs an `image` that a registry has");
            self.problem(problem.hint("such as `image: ghcr.io/org/name:tag`; an archive needs no login"));
        }
        let mut part = |name: &str| {
            let part = fields.get(name);
            if part.is_none() {
                let problem = Problem::new(node.place, format!("`registry` has no `{name}`"));
                self.problem(problem.hint("`registry: {username: me, password: NAME}` with a secret's name"));
            }
            part
        };
        let (user, password) = (part("username"), part("password"));
        let username = user.and_then(|node| self.username(node));
        let secret = password.and_then(|node| {
            let name = self.text(node, "registry.password")?;
            if secrets.iter().any(|secret| secret.name == name) {
                return Some(name);
            }
            let problem = Problem::new(node.place, "`registry.password` names no secret of this job");
            self.problem(
                problem.hint("list it: `secrets: [REGISTRY_TOKEN]`, then `password: REGISTRY_TOKEN`"),
            );
            None
        });
        Some(RegistryLogin { username: username?, secret: secret? })
    }

    fn username(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node, "registry.username")?;
        if RegistryLogin::is_user(&name) {
            return Some(name);
        }
        let message = "`registry.username` must have 1 to 256 bytes, without `:` and control characters";
        self.problem(Problem::new(node.place, message));
        None
    }
}
