//! The summary at the end of a segment.

use std::io;

use crate::trace::block::put_record;
use crate::trace::codec::encode_header;
use crate::trace::compress::Then;
use crate::trace::format::opcode;
use crate::trace::index::{
    Footer, INDEX_CHUNK, Place, Totals, encode_chapters, encode_footer, encode_places,
};
use crate::trace::record::{Counters, Header};
use crate::trace::sink::Sink;
use crate::trace::writer::WriterOptions;

/// What the summary of a segment is made from.
pub(crate) struct Summing<'a> {
    pub(crate) header: &'a Header,
    /// Its exchanges by id.
    pub(crate) places: &'a [Place],
    pub(crate) totals: Totals,
    /// Number of the first blob that would come next.
    pub(crate) next_blob: u64,
}

// === impl Summing ===

impl Summing<'_> {
    /// Writes the summary and the tail.
    pub(crate) fn write(
        &self,
        sink: &mut Sink,
        counters: &Counters,
        options: &WriterOptions,
    ) -> io::Result<()> {
        let mut records = Vec::new();
        // Once more, for a reader that finds the first one damaged.
        put_record(&mut records, opcode::HEADER, &encode_header(self.header));
        let mut payload = Vec::new();
        encode_chapters(sink.chapters(), &mut payload);
        put_record(&mut records, opcode::MAP, &payload);
        let mut blocks = vec![records];
        for places in self.places.chunks(INDEX_CHUNK) {
            payload.clear();
            encode_places(places, &mut payload);
            let mut records = Vec::new();
            put_record(&mut records, opcode::INDEX, &payload);
            blocks.push(records);
        }
        let mut records = Vec::new();
        let footer = Footer { totals: self.totals, counters: *counters };
        put_record(&mut records, opcode::FOOTER, &encode_footer(&footer));
        blocks.push(records);
        sink.break_frame();
        let summary = sink.offset();
        for records in blocks {
            let mut raw = Vec::new();
            if let Some(start) = sink.start(self.next_blob) {
                put_record(&mut raw, opcode::START, &start.encode());
            }
            raw.extend_from_slice(&records);
            sink.write_block(&raw, self.next_blob, Then::GoOn, options)?;
        }
        sink.write_tail(summary)
    }
}
