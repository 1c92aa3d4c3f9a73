//! Values survive the round trip; hostile bytes are cheap errors.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn bytes_of(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::new();
    encode_all(&mut out, values);
    out
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,40}".prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
        Just(Value::Unsupported),
        any::<u16>().prop_map(Value::Reference),
        (0f64..4e12, any::<i16>()).prop_map(|(unix_ms, time_zone)| Value::Date { unix_ms, time_zone }),
        ".{0,40}".prop_map(Value::LongString),
        ".{0,40}".prop_map(Value::Xml),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let pairs = prop::collection::vec((".{1,12}", inner.clone()), 0..8);
        prop_oneof![
            pairs.clone().prop_map(Value::Object),
            pairs.prop_map(Value::EcmaArray),
            prop::collection::vec(inner, 0..8).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #[test]
    fn values_round_trip(values in prop::collection::vec(any_value(), 1..5)) {
        prop_assert_eq!(decode(&bytes_of(&values)).unwrap(), values);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn small_marker_soup_never_panics(bytes in prop::collection::vec(0u8..0x12, 0..512)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn every_truncation_is_a_prefix_or_an_error(values in prop::collection::vec(any_value(), 1..4)) {
        let whole = bytes_of(&values);
        for len in 0..whole.len() {
            if let Ok(got) = decode(&whole[..len]) {
                prop_assert!(got.len() <= values.len());
            }
        }
    }
}

#[test]
fn connect_of_the_specification() {
    let values =
        decode(b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0\x03\0\x03app\x02\0\x04live\0\0\x09").unwrap();
    assert_eq!(values[0].as_str(), Some("connect"));
    assert_eq!(values[1].as_f64(), Some(1.0));
    assert_eq!(values[2].get("app").and_then(Value::as_str), Some("live"));
}

#[test]
fn two_hundred_thousand_nested_arrays_are_a_cheap_error() {
    let strict = [marker::STRICT_ARRAY, 0, 0, 0, 1].repeat(200_000);
    assert_eq!(decode(&strict), Err(Error::TooDeep));
    let objects = [marker::OBJECT, 0, 1, b'k'].repeat(200_000);
    assert_eq!(decode(&objects), Err(Error::TooDeep));
    let ecma = [marker::ECMA_ARRAY, 0xff, 0xff, 0xff, 0xff, 0, 1, b'k'].repeat(200_000);
    assert_eq!(decode(&ecma), Err(Error::TooDeep));
}

#[test]
fn a_message_at_the_limit_costs_less_than_a_megabyte() {
    assert!(2 * MAX_ELEMENTS * size_of::<(String, Value)>() < 1_000_000);
}

#[test]
fn the_class_of_a_typed_object_is_not_kept() {
    let typed = decode(b"\x10\0\x01C\0\x01a\x05\0\0\x09").unwrap();
    assert_eq!(typed, [Value::object([("a", Value::Null)])]);
}

#[test]
fn lengths_beyond_the_message_are_errors() {
    assert_eq!(decode(b"\x0c\xff\xff\xff\xffabc"), Err(Error::Truncated));
    assert_eq!(decode(b"\x0f\xff\xff\xff\xffabc"), Err(Error::Truncated));
    assert_eq!(decode(b"\x02\xff\xffabc"), Err(Error::Truncated));
    assert_eq!(decode(b"\x0a\xff\xff\xff\xff\x05"), Err(Error::Truncated));
}

#[test]
fn more_values_than_the_limit_are_an_error() {
    let nulls = [marker::NULL].repeat(MAX_ELEMENTS + 1);
    assert_eq!(decode(&nulls), Err(Error::TooMany));
    assert_eq!(decode(&nulls[..MAX_ELEMENTS]).unwrap().len(), MAX_ELEMENTS);
    let mut array = vec![marker::STRICT_ARRAY];
    array.extend_from_slice(&u32::try_from(nulls.len()).unwrap().to_be_bytes());
    array.extend_from_slice(&nulls);
    assert_eq!(decode(&array), Err(Error::TooMany));
}

#[test]
fn amf3_and_reserved_types_are_refused() {
    assert_eq!(decode(&[0x11, 0x01]), Err(Error::Amf3));
    for reserved in [0x04, 0x0e, 0x12, 0xff] {
        assert_eq!(decode(&[reserved, 0, 0]), Err(Error::Marker(reserved)));
    }
}

#[test]
fn harmless_mistakes_of_encoders_are_accepted() {
    // No end marker at the end of the message.
    let open = decode(b"\x08\0\0\0\x01\0\x01a\x01\x01").unwrap();
    assert_eq!(open, [Value::EcmaArray(vec![("a".into(), Value::Boolean(true))])]);
    // A count that lies.
    let lying = decode(b"\x08\0\0\xff\xff\0\x01a\x05\0\0\x09").unwrap();
    assert_eq!(lying, [Value::EcmaArray(vec![("a".into(), Value::Null)])]);
    // An end marker too many, and padding.
    assert_eq!(decode(b"\x05\0\0\x09").unwrap(), [Value::Null]);
    assert_eq!(decode(b"\x05\x09").unwrap(), [Value::Null]);
    assert_eq!(decode(b"\x05\0\0\0\0").unwrap(), [Value::Null]);
    // Text in another encoding.
    assert_eq!(decode(b"\x02\0\x02\xc4\xe3").unwrap(), [Value::String("\u{fffd}\u{fffd}".into())]);
}

#[test]
fn text_too_long_for_its_field_is_still_decodable() {
    let text = "é".repeat(40_000);
    assert_eq!(decode(&bytes_of(&[Value::String(text.clone())])).unwrap(), [Value::LongString(text.clone())]);
    let cut = decode(&bytes_of(&[Value::object([(text.as_str(), Value::Null)])])).unwrap();
    assert_eq!(cut[0].properties()[0].0.len(), 65_534);
}
