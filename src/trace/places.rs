//! Where the exchanges of a segment lie, packed: some 12 bytes for each, as in the index on disk. In the clear it would be 48,
//! which of a million exchanges is a large part of what a replay holds.

use bytes::Bytes;

use crate::trace::index::{Place, decode_places, encode_places};
use crate::trace::record::ExchangeId;
use crate::trace::wire::Malformed;

/// The places of a segment's exchanges, by id.
#[derive(Debug, Default)]
pub(crate) struct Places {
    shelves: Vec<Packed>,
    /// What comes after them, not packed yet.
    last: Vec<Place>,
    /// The lowest and the highest id.
    range: Option<(ExchangeId, ExchangeId)>,
    len: usize,
}

/// Some places that follow each other.
#[derive(Debug)]
struct Packed {
    /// The id of the first.
    first: ExchangeId,
    bytes: Bytes,
}

/// Places that are packed together: one is had by unpacking them all.
const TOGETHER: usize = 1 << 10;

// === impl Places ===

impl Places {
    /// Adds the place of an exchange with a higher id than those before it; returns whether it has one.
    #[must_use]
    pub(crate) fn push(&mut self, place: Place) -> bool {
        if self.range.is_some_and(|(_, highest)| highest >= place.id) {
            return false;
        }
        self.range = Some((self.range.map_or(place.id, |(lowest, _)| lowest), place.id));
        self.last.push(place);
        self.len += 1;
        if self.last.len() == TOGETHER {
            self.pack();
        }
        true
    }

    /// Packs what is not packed yet: all that are to come have come.
    #[must_use]
    pub(crate) fn packed(mut self) -> Self {
        self.pack();
        self.last = Vec::new();
        self
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the lowest and the highest id; none when there are none.
    pub(crate) fn range(&self) -> Option<(ExchangeId, ExchangeId)> {
        self.range
    }

    /// Returns all of them, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> {
        self.shelves
            .iter()
            .flat_map(|packed| unpack(packed.bytes.clone()))
            .chain(self.last.iter().copied())
    }

    /// Returns the number of the shelf that an exchange would be on; none when it is before or after all of them.
    pub(crate) fn shelf_of(&self, id: ExchangeId) -> Option<usize> {
        let before = match self.last.first() {
            Some(first) if first.id <= id => self.shelves.len(),
            _ => self.shelves.partition_point(|packed| packed.first <= id).checked_sub(1)?,
        };
        self.range.is_some_and(|(_, highest)| id <= highest).then_some(before)
    }

    /// Returns the places on a shelf, by id.
    pub(crate) fn shelf(&self, number: usize) -> Vec<Place> {
        match self.shelves.get(number) {
            Some(packed) => unpack(packed.bytes.clone()),
            None => self.last.clone(),
        }
    }

    fn pack(&mut self) {
        let Some(first) = self.last.first().map(|place| place.id) else { return };
        let mut bytes = Vec::new();
        encode_places(&self.last, &mut bytes);
        bytes.shrink_to_fit();
        self.shelves.push(Packed { first, bytes: bytes.into() });
        self.last.clear();
    }
}

impl FromIterator<Place> for Places {
    /// Collects places that come by id. One that comes again is left out.
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut packed = Self::default();
        for place in places {
            let _is_new = packed.push(place);
        }
        packed.packed()
    }
}

fn unpack(bytes: Bytes) -> Vec<Place> {
    // What was packed here is well formed.
    let places: Result<_, Malformed> = decode_places(bytes);
    places.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Nanos;
    use crate::trace::record::Outcome;

    fn place(id: u64) -> Place {
        let ordinal = u32::try_from(id / 1_000).unwrap();
        Place {
            id: ExchangeId(id),
            at: Nanos(id * 1_000_000),
            end: (!id.is_multiple_of(7))
                .then(|| (Nanos(id * 1_000_000 + 350_000_000), Outcome::Complete)),
            first: ordinal,
            request_last: ordinal,
            last: ordinal + u32::from(id.is_multiple_of(3)),
        }
    }

    fn find(places: &Places, id: u64) -> Option<Place> {
        let shelf = places.shelf(places.shelf_of(ExchangeId(id))?);
        shelf.into_iter().find(|place| place.id.0 == id)
    }

    /// A replay holds this for every exchange of its trace.
    #[test]
    fn a_place_takes_some_12_bytes() {
        const COUNT: usize = 20 * TOGETHER;
        let places: Places = (1..=COUNT as u64).map(place).collect();
        let bytes: usize = places.shelves.iter().map(|packed| packed.bytes.len()).sum();
        let each = (bytes + size_of_val(places.shelves.as_slice())) / COUNT;
        assert_eq!((places.len(), places.last.capacity()), (COUNT, 0));
        assert!((8..=14).contains(&each), "{each} bytes");
    }

    #[test]
    fn one_that_does_not_follow_is_not_taken() {
        let mut places: Places = [3, 4, 4, 2, 9].into_iter().map(place).collect();
        assert!(!places.push(place(9)) && !places.push(place(0)) && places.push(place(10)));
        assert_eq!(places.iter().map(|place| place.id.0).collect::<Vec<_>>(), [3, 4, 9, 10]);
        assert_eq!(places.len(), 4);
        assert_eq!(find(&Places::default(), 1), None);
    }

    proptest! {
        #[test]
        fn each_is_found_and_no_other(
            gaps in proptest::collection::vec(1_u64..4, 1..3_000),
            pack in any::<bool>(),
        ) {
            let ids: Vec<u64> = gaps
                .iter()
                .scan(0, |id, gap| {
                    *id += gap;
                    Some(*id)
                })
                .collect();
            let mut places = Places::default();
            for id in &ids {
                prop_assert!(places.push(place(*id)));
            }
            let places = if pack { places.packed() } else { places };
            prop_assert_eq!(places.len(), ids.len());
            prop_assert!(places.iter().eq(ids.iter().copied().map(place)));
            for id in (0..ids[ids.len() - 1] + 3).step_by(17) {
                let expected = ids.binary_search(&id).is_ok().then(|| place(id));
                prop_assert_eq!(find(&places, id), expected);
            }
        }
    }
}
