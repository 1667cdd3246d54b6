//! What a table is: columns, their documentation, and rows that become columns and back.
//!
//! `table!` turns one documented struct into all of it, so that a column is written down once: its name, its type and
//! its documentation are the struct's field. `parquet.rs` gives it bytes; this file knows nothing of Arrow.

/// A row of a table of the run folder.
pub trait Row: Sized + Send + 'static {
    /// Name of the table: its file is `NAME.parquet`.
    const TABLE: &'static str;
    /// One sentence about a row.
    const DOC: &'static str;
    /// Its columns, in order.
    const COLUMNS: &'static [Column];

    /// Moves the row to the end of `columns`, which stand in the order of [`Self::COLUMNS`].
    fn unload(self, columns: &mut [Values]);

    /// Takes the next row out of `columns`, which stand in the order of [`Self::COLUMNS`].
    fn load(columns: &mut [Cursor]) -> Self;

    /// Returns when the row was complete, in nanoseconds since the run's start; none if it was never known.
    fn at_ns(&self) -> Option<i64>;
}

/// One column, as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name; the unit is its last part.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether a value may be missing.
    pub nullable: bool,
    /// What it says.
    pub doc: &'static str,
}

/// Types of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// 16 bits, unsigned.
    U16,
    /// 32 bits, unsigned.
    U32,
    /// 64 bits, unsigned.
    U64,
    /// 64 bits, signed.
    I64,
    /// Wall time in nanoseconds since 1970, UTC: an `i64` whose name ends in `_at`.
    Utc,
    /// 64 bits, floating.
    F64,
    /// UTF-8.
    Text,
}

/// Values of one column, one for each row.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// [`Kind::Bool`]
    Bool(Vec<Option<bool>>),
    /// [`Kind::U16`]
    U16(Vec<Option<u16>>),
    /// [`Kind::U32`]
    U32(Vec<Option<u32>>),
    /// [`Kind::U64`]
    U64(Vec<Option<u64>>),
    /// [`Kind::I64`] and [`Kind::Utc`]
    I64(Vec<Option<i64>>),
    /// [`Kind::F64`]
    F64(Vec<Option<f64>>),
    /// [`Kind::Text`]
    Text(Vec<Option<String>>),
}

/// Reads the values of one column in order.
#[derive(Debug)]
pub struct Cursor {
    values: Values,
    next: usize,
}

/// A Rust type that a column can hold: `T` or `Option<T>` of the types of [`Kind`].
pub trait Cell: Sized {
    /// The column's type.
    const KIND: Kind;
    /// Whether a value may be missing.
    const NULLABLE: bool;

    /// Appends it to a column of its kind.
    fn unload(self, column: &mut Values);

    /// Takes the next value of a column; one that is missing, or of another kind, is the type's default.
    fn load(column: &mut Cursor) -> Self;
}

/// Defines a table: the struct, its columns and their documentation.
///
/// `pub struct NAME in "TABLE" by EXPR { .. }`: `EXPR` is the field that says when the row was complete.
macro_rules! table {
    (
        $(#[doc = $row_doc:literal])+
        $(#[derive($($derive:ident),+)])?
        pub struct $name:ident in $table:literal by $at:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident: $type:ty, )+
        }
    ) => {
        $(#[doc = $row_doc])+
        $(#[derive($($derive),+)])?
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl $crate::results::table::Row for $name {
            const TABLE: &'static str = $table;
            const DOC: &'static str = concat!($($row_doc),+).trim_ascii();
            const COLUMNS: &'static [$crate::results::table::Column] = &[
                $( $crate::results::table::Column {
                    name: stringify!($field),
                    kind: $crate::results::table::kind_of(
                        stringify!($field),
                        <$type as $crate::results::table::Cell>::KIND,
                    ),
                    nullable: <$type as $crate::results::table::Cell>::NULLABLE,
                    doc: concat!($($doc),+).trim_ascii(),
                }, )+
            ];

            fn unload(self, columns: &mut [$crate::results::table::Values]) {
                let mut columns = columns.iter_mut();
                $( if let Some(column) = columns.next() {
                    $crate::results::table::Cell::unload(self.$field, column);
                } )+
            }

            fn load(columns: &mut [$crate::results::table::Cursor]) -> Self {
                let mut columns = columns.iter_mut();
                Self {
                    $( $field: columns
                        .next()
                        .map(<$type as $crate::results::table::Cell>::load)
                        .unwrap_or_default(), )+
                }
            }

            fn at_ns(&self) -> Option<i64> {
                Option::<i64>::from(self.$at)
            }
        }
    };
}
pub(super) use table;

/// Gives `Cell` to a type and to its option.
macro_rules! cell {
    ($type:ty, $variant:ident) => {
        impl Cell for $type {
            const KIND: Kind = Kind::$variant;
            const NULLABLE: bool = false;

            fn unload(self, column: &mut Values) {
                Some(self).unload(column);
            }

            fn load(column: &mut Cursor) -> Self {
                Option::<Self>::load(column).unwrap_or_default()
            }
        }

        impl Cell for Option<$type> {
            const KIND: Kind = Kind::$variant;
            const NULLABLE: bool = true;

            fn unload(self, column: &mut Values) {
                if let Values::$variant(values) = column {
                    values.push(self);
                }
            }

            fn load(column: &mut Cursor) -> Self {
                let Values::$variant(values) = &mut column.values else { return None };
                let value = values.get_mut(column.next).and_then(Option::take);
                column.next += 1;
                value
            }
        }
    };
}

cell!(bool, Bool);
cell!(u16, U16);
cell!(u32, U32);
cell!(u64, U64);
cell!(i64, I64);
cell!(f64, F64);
cell!(String, Text);

/// Returns the kind of the column `name` whose Rust type is of `kind`: an `i64` named `.._at` is wall time.
#[must_use]
pub const fn kind_of(name: &str, kind: Kind) -> Kind {
    let wall = matches!(name.as_bytes(), [.., b'_', b'a', b't']);
    match kind {
        Kind::I64 if wall => Kind::Utc,
        other => other,
    }
}

/// Returns an empty column for each of `columns`.
#[must_use]
pub fn empty(columns: &[Column]) -> Vec<Values> {
    columns.iter().map(|column| Values::new(column.kind)).collect()
}

// === impl Kind ===

impl Kind {
    /// Returns its name as DuckDB prints it.
    #[must_use]
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Bool => "BOOLEAN",
            Self::U16 => "USMALLINT",
            Self::U32 => "UINTEGER",
            Self::U64 => "UBIGINT",
            Self::I64 => "BIGINT",
            Self::Utc => "TIMESTAMP WITH TIME ZONE",
            Self::F64 => "DOUBLE",
            Self::Text => "VARCHAR",
        }
    }
}

// === impl Values ===

impl Values {
    /// Returns an empty column.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::U16 => Self::U16(Vec::new()),
            Kind::U32 => Self::U32(Vec::new()),
            Kind::U64 => Self::U64(Vec::new()),
            Kind::I64 | Kind::Utc => Self::I64(Vec::new()),
            Kind::F64 => Self::F64(Vec::new()),
            Kind::Text => Self::Text(Vec::new()),
        }
    }

    /// Reads from the first value on.
    #[must_use]
    pub const fn cursor(self) -> Cursor {
        Cursor { values: self, next: 0 }
    }
}
