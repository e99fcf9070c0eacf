//! How the database is tuned. Column families differ in what they hold and how long it lives.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    MemtableFactory, Options,
};

use super::Recovery;
use crate::engine::Cf;

/// One memtable of the log: entries should die before they are flushed.
const LOG_MEMTABLE_BYTES: usize = 32 << 20;
/// One memtable of any other column family.
const MEMTABLE_BYTES: usize = 16 << 20;
/// Memtables of all column families together; then the oldest is flushed.
const MEMTABLES_BYTES_MAX: usize = 48 << 20;
/// Write-ahead log kept because of idle column families.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// Blocks in memory, for all column families.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Bloom filter, for rows that are often asked for and often not there.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// The same in front of a memtable, as a part of its size.
const MEMTABLE_BLOOM_RATIO: f64 = 0.1;
/// Files that RocksDB keeps open.
const OPEN_FILES_MAX: i32 = 512;
/// RocksDB's own log files.
const INFO_LOG_FILES_MAX: usize = 3;
const INFO_LOG_BYTES_MAX: usize = 4 << 20;

pub(super) fn database(recovery: Recovery) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(match recovery {
        Recovery::Whole => DBRecoveryMode::TolerateCorruptedTailRecords,
        Recovery::UpToDamage => DBRecoveryMode::PointInTime,
    });
    options.set_track_and_verify_wals_in_manifest(recovery == Recovery::Whole);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    // There is one writer.
    options.set_allow_concurrent_memtable_write(false);
    options.set_db_write_buffer_size(MEMTABLES_BYTES_MAX);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(INFO_LOG_FILES_MAX);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options
}

pub(super) fn column_families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    Cf::ALL
        .into_iter()
        .map(|cf| ColumnFamilyDescriptor::new(cf.name(), column_family(cf, &cache)))
        .collect()
}

fn column_family(cf: Cf, cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(5);
    match cf {
        Cf::Log => {
            // Entries are read when the database is opened, and by nobody after that: they need no
            // order until they are flushed, and finding their place was the largest part of a
            // write.
            options.set_memtable_factory(MemtableFactory::Vector);
            options.set_write_buffer_size(LOG_MEMTABLE_BYTES);
            options.set_max_write_buffer_number(2);
            options.set_compression_type(DBCompressionType::None);
        }
        // Rows that every turn looks for, most of them in vain.
        Cf::State | Cf::Dedup => {
            options.set_write_buffer_size(MEMTABLE_BYTES);
            options.set_compression_type(DBCompressionType::Lz4);
            table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
            options.set_memtable_whole_key_filtering(true);
        }
        Cf::Meta | Cf::Raft | Cf::Outbox => {
            options.set_write_buffer_size(MEMTABLE_BYTES);
            options.set_compression_type(DBCompressionType::Lz4);
        }
    }
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_block_based_table_factory(&table);
    options
}
