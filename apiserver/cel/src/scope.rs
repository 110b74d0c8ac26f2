//! What an expression may name.

use std::sync::Arc;

use crate::{
    check::{Type, of_decl},
    decl::Decl,
};

/// The variables of an expression.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    variables: Vec<Variable>,
    /// It may make `Object{...}` and `JSONPatch{...}`: what is to be changed.
    makes_patches: bool,
    /// It may name an intermediate value: `cel.bind(name, value, expression)`.
    binds: bool,
    /// It is a schema's rule.
    is_rule: bool,
}

#[derive(Clone, Debug)]
struct Variable {
    name: Arc<str>,
    decl: Arc<Decl>,
    is_optional: bool,
}

impl Scope {
    /// Of a schema's rule: `self` and `oldSelf` are of one type, the latter perhaps as an optional.
    pub fn of_rule(decl: Arc<Decl>, optional_old_self: bool) -> Self {
        let mut scope = Self::default().with("self", decl.clone()).with("oldSelf", decl);
        if let Some(old) = scope.variables.last_mut() {
            old.is_optional = optional_old_self;
        }
        scope.is_rule = true;
        scope
    }

    /// With one more variable; its name may have a dot.
    pub fn with(mut self, name: &str, decl: Arc<Decl>) -> Self {
        self.variables.push(Variable { name: name.into(), decl, is_optional: false });
        self
    }

    pub fn making_patches(mut self) -> Self {
        self.makes_patches = true;
        self
    }

    pub fn binding(mut self) -> Self {
        self.binds = true;
        self
    }

    pub(crate) fn binds(&self) -> bool {
        self.binds
    }

    pub(crate) fn makes_patches(&self) -> bool {
        self.makes_patches
    }

    /// All variables with their types.
    pub(crate) fn types(&self) -> impl Iterator<Item = (Arc<str>, Type)> {
        self.variables.iter().map(|variable| {
            let ty = of_decl(&variable.decl);
            let ty = if variable.is_optional { Type::Optional(Arc::new(ty)) } else { ty };
            (variable.name.clone(), ty)
        })
    }

    /// What sizes are taken from. In rules upstream's estimates take any name for `self`.
    pub(crate) fn decl(&self, name: &str) -> Option<&Arc<Decl>> {
        let mut variables = self.variables.iter();
        let found = variables.find(|own| self.is_rule || *own.name == *name);
        found.map(|variable| &variable.decl)
    }
}
