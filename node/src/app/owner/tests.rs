use super::table::{Row, inode_of, rows};
use super::*;
use std::net::TcpListener;
use std::net::TcpStream;

const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:1F90 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   4: 0100007F:1F90 0100007F:D435 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0000000000000000
";

const TABLE6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:1F91 0000000000000000FFFF00000100007F:D433 01 00000000:00000000 00:00000000 00000000  1000        0 4714 1 0000000000000000 20 4 30 10 -1
   1: 00000000000000000000000001000000:1F91 00000000000000000000000001000000:D434 01 00000000:00000000 00:00000000 00000000  1000        0 4715 1 0000000000000000 20 4 30 10 -1
";

/// The table is in the machine's byte order, which is little endian wherever this is tested.
#[test]
fn rows_of_the_kernel() {
    let all: Vec<Row> = rows(TABLE).chain(rows(TABLE6)).collect();
    for (near, far, inode) in [
        ("127.0.0.1:54321", "127.0.0.1:8080", Some(4712)),
        ("127.0.0.1:54322", "127.0.0.1:8080", Some(0)),
        // A server on both families shows in the second table.
        ("127.0.0.1:54323", "127.0.0.1:8081", Some(4714)),
        ("[::1]:54324", "[::1]:8081", Some(4715)),
        // Closed by the far end: nobody will accept it any more.
        ("127.0.0.1:54325", "127.0.0.1:8080", None),
        ("127.0.0.1:9", "127.0.0.1:8080", None),
        ("127.0.0.1:54321", "127.0.0.2:8080", None),
    ] {
        let pair = Pair {
            near: near.parse().unwrap(),
            far: far.parse().unwrap(),
        };
        assert_eq!(inode_of(&all, pair), inode, "{near} {far}");
    }
    assert_eq!(rows("head\nnonsense\n 1: 00:00 zz").count(), 0);
}

#[test]
fn images() {
    let numbers = "4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 777 23 24 25 26 27 999 29";
    let image = Image {
        pid: 7,
        started: 777,
        stack: 999,
    };
    let wanted = Some(image);
    assert_eq!(parse_stat(7, &format!("7 (a) b (c)) S {numbers}")), wanted);
    assert_eq!(parse_stat(7, &format!("7 (gone) Z {numbers}")), None);
    assert_eq!(parse_stat(7, "7 (short) S 1 2 3"), None);
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_to_oneself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let pair = Pair {
        near: near.local_addr().unwrap(),
        far: near.peer_addr().unwrap(),
    };
    assert_eq!(look(&[pair], &[]), [End::NotYet]);
    let (far, _) = listener.accept().unwrap();
    let me = Image::of(std::process::id()).unwrap();
    assert!(me.lives());
    assert_eq!(look(&[pair], &[]), [End::Of(me)]);
    assert_eq!(look(&[pair, pair], &[me]), [End::Of(me); 2]);
    // One that has never run owns nothing, and does not hide who does.
    let never = Image { started: 1, ..me };
    assert!(!never.lives());
    assert_eq!(look(&[pair], &[never]), [End::Of(me)]);
    drop((near, far));
    assert_eq!(look(&[pair], &[me]), [End::Absent]);
}

/// What the kernel says when it is asked is what its table says.
#[test]
#[cfg(target_os = "linux")]
fn asked_and_read() {
    for (listen, connect) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "[::1]"),
        ("[::1]:0", "[::1]"),
    ] {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let near = TcpStream::connect(format!("{connect}:{port}")).unwrap();
        let pair = Pair {
            near: near.local_addr().unwrap(),
            far: near.peer_addr().unwrap(),
        };
        let both = |step: &str| {
            let (read, sight) = read(&[pair]);
            assert_eq!(sight, Sight::Clear);
            let asked = asked(&[pair]).unwrap();
            assert_eq!(asked, read, "{listen} {connect}: {step}");
            asked[0]
        };
        // Nobody is connected from there, but somebody listens: a kernel that does not know our own
        // end is not believed.
        let port_alone = Pair {
            near: SocketAddr::new(pair.near.ip(), 1),
            ..pair
        };
        assert!(asked(&[port_alone]).is_err(), "{listen} {connect}");
        assert_eq!(look(&[port_alone], &[]), [End::Absent]);
        assert_eq!(both("not accepted"), Some(0));
        let (far, _) = listener.accept().unwrap();
        assert!(both("accepted").unwrap() > 0);
        drop(far);
        assert_eq!(both("closed"), None);
        drop(near);
        assert_eq!(both("gone"), None);
    }
}

/// A process that has thousands of files is read as far as what is wanted.
#[test]
#[cfg(target_os = "linux")]
fn one_of_many_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut held = Vec::new();
    let mut pairs = Vec::new();
    for _ in 0..50 {
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        pairs.push(Pair {
            near: near.local_addr().unwrap(),
            far: near.peer_addr().unwrap(),
        });
        held.push((near, listener.accept().unwrap().0));
    }
    let me = Image::of(std::process::id()).unwrap();
    for pair in &pairs {
        assert_eq!(look(&[*pair], &[me]), [End::Of(me)]);
    }
    assert_eq!(look(&pairs, &[me]), [End::Of(me); 50]);
}

#[test]
fn short_sight_is_no_verdict() {
    use rustix::io::Errno;
    for (error, sight) in [
        (Errno::NOENT, Sight::Clear),
        (Errno::ACCESS, Sight::Clear),
        (Errno::SRCH, Sight::Clear),
        (Errno::MFILE, Sight::Short),
        (Errno::NFILE, Sight::Short),
        (Errno::NOMEM, Sight::Short),
    ] {
        let mut found = Sight::Clear;
        found.troubled_by(&error.into());
        assert_eq!(found, sight, "{error:?}");
    }
}
