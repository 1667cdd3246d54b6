//! Keys for encrypted traces, which guard nothing.

use reenact::trace::{ReadOptions, Recipients};

/// Recipients and their identities.
pub(crate) const KEYS: [(&str, &str); 3] = [
    (
        "age1juck0c4yd5f3zat3jpsqe9lkfsx2n0wyvzfytfq2edlgzjs5k3gs3fh4vf",
        "AGE-SECRET-KEY-10CNP2GFJYQ6477C45LZDA2GWYKFEZHEXQPDM9QM9LGQPMTAMQHPSQ6QY2C",
    ),
    (
        "age15v2v4dcjkn590krzma0j77xp83qsn3ndczzdyxu0p6srgh4er4vqp620dw",
        "AGE-SECRET-KEY-1HTXMTY3RMR0RGFGXKHNDPEVJRPS7TVFJ2D54E5AWANKS7MW58YCQLRWW2T",
    ),
    (
        "age1vrccpvum9k28mgaxw8t5v7w6axmkyxuledz3xdmswlezpw05carq8tm29x",
        "AGE-SECRET-KEY-1NJNCT89LUVH55T85LDTUQNJYHQTSDS406FHDZ7GFMY04DG8R6DUQKE9270",
    ),
];

/// Returns these of [`KEYS`] as recipients.
pub(crate) fn recipients(which: &[usize]) -> Recipients {
    Recipients::new(which.iter().map(|&idx| KEYS[idx].0.parse().unwrap()).collect())
}

/// Returns the identities of these of [`KEYS`].
pub(crate) fn identities(which: &[usize]) -> ReadOptions {
    ReadOptions { identities: which.iter().map(|&idx| KEYS[idx].1.parse().unwrap()).collect() }
}
