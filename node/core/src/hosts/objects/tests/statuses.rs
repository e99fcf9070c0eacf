//! What an application answered is told as a text, and found again in it.

use super::super::*;

#[test]
fn the_status_of_an_answer_is_found_again() {
    let actor = ActorKey::new("default", "bank", "a").unwrap();
    for (status, is_wakeup) in [
        (500, IsWakeup::No),
        (503, IsWakeup::No),
        (404, IsWakeup::No),
        (404, IsWakeup::Yes),
    ] {
        let body = Bytes::from_static(b"(200) and (300)");
        let answer = (status, AnswerKind::Plain);
        let verdict = judge(&actor, ("m", is_wakeup), answer, &body);
        let error = verdict.error.expect("it is none that is well");
        assert_eq!(app_status(&error), Some(status), "{}", error.message);
    }
    let other = AppError {
        name: "Short".to_owned(),
        message: "error from actor service: (500) x".to_owned(),
        payload: Bytes::new(),
    };
    assert_eq!(app_status(&other), None, "an error of a native actor");
}
