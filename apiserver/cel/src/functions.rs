//! The functions that expressions may call, as a table: CEL's own and those of Kubernetes' libraries,
//! with upstream's names of their overloads, which cost rules go by.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use crate::check::Type;

/// One signature of a function.
#[derive(Debug)]
pub struct Overload {
    pub id: &'static str,
    /// The first argument stands before the dot.
    pub member: bool,
    pub args: Vec<Template>,
    pub result: Template,
}

/// A type with parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// `A` is 0, `B` is 1.
    Param(u32),
    Plain(Simple),
    List(Box<Template>),
    Map(Box<Template>, Box<Template>),
    Optional(Box<Template>),
    /// The type of `A`.
    TypeOf,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Simple {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    Opaque(&'static str),
}

/// `function overload (argument, ...) result`; a leading dot: called on its first argument.
const TABLE: &str = "
!_ logical_not (bool) bool
@not_strictly_false not_strictly_false (bool) bool
_&&_ logical_and (bool,bool) bool
_||_ logical_or (bool,bool) bool
_?_:_ conditional (bool,A,A) A
_==_ equals (A,A) bool
_!=_ not_equals (A,A) bool
@in in_list (A,list<A>) bool
@in in_map (A,map<A,B>) bool
_[_] index_list (list<A>,int) A
_[_] index_map (map<A,B>,A) B
_[_] optional_list_index_value (opt<list<A>>,int) opt<A>
_[_] optional_map_index_value (opt<map<A,B>>,A) opt<B>
_[?_] list_optindex_optional_int (list<A>,int) opt<A>
_[?_] map_optindex_optional_value (map<A,B>,A) opt<B>
_[?_] optional_list_optindex_optional_int (opt<list<A>>,int) opt<A>
_[?_] optional_map_optindex_optional_value (opt<map<A,B>>,A) opt<B>
_+_ add_int64 (int,int) int
_+_ add_uint64 (uint,uint) uint
_+_ add_double (double,double) double
_+_ add_string (string,string) string
_+_ add_bytes (bytes,bytes) bytes
_+_ add_list (list<A>,list<A>) list<A>
_+_ add_duration_duration (duration,duration) duration
_+_ add_duration_timestamp (duration,timestamp) timestamp
_+_ add_timestamp_duration (timestamp,duration) timestamp
_-_ subtract_int64 (int,int) int
_-_ subtract_uint64 (uint,uint) uint
_-_ subtract_double (double,double) double
_-_ subtract_duration_duration (duration,duration) duration
_-_ subtract_timestamp_timestamp (timestamp,timestamp) duration
_-_ subtract_timestamp_duration (timestamp,duration) timestamp
_*_ multiply_int64 (int,int) int
_*_ multiply_uint64 (uint,uint) uint
_*_ multiply_double (double,double) double
_/_ divide_int64 (int,int) int
_/_ divide_uint64 (uint,uint) uint
_/_ divide_double (double,double) double
_%_ modulo_int64 (int,int) int
_%_ modulo_uint64 (uint,uint) uint
-_ negate_int64 (int) int
-_ negate_double (double) double
size size_bytes (bytes) int
size size_list (list<A>) int
size size_map (map<A,B>) int
size size_string (string) int
.size bytes_size (bytes) int
.size list_size (list<A>) int
.size map_size (map<A,B>) int
.size string_size (string) int
type type (A) type
dyn to_dyn (A) dyn
bool bool_to_bool (bool) bool
bool string_to_bool (string) bool
bytes bytes_to_bytes (bytes) bytes
bytes string_to_bytes (string) bytes
double double_to_double (double) double
double int64_to_double (int) double
double string_to_double (string) double
double uint64_to_double (uint) double
duration duration_to_duration (duration) duration
duration string_to_duration (string) duration
int int64_to_int64 (int) int
int double_to_int64 (double) int
int duration_to_int64 (duration) int
int string_to_int64 (string) int
int timestamp_to_int64 (timestamp) int
int uint64_to_int64 (uint) int
string bool_to_string (bool) string
string bytes_to_string (bytes) string
string double_to_string (double) string
string duration_to_string (duration) string
string int64_to_string (int) string
string string_to_string (string) string
string timestamp_to_string (timestamp) string
string uint64_to_string (uint) string
string ip_to_string (net.IP) string
string cidr_to_string (net.CIDR) string
timestamp timestamp_to_timestamp (timestamp) timestamp
timestamp string_to_timestamp (string) timestamp
timestamp int64_to_timestamp (int) timestamp
uint uint64_to_uint64 (uint) uint
uint double_to_uint64 (double) uint
uint int64_to_uint64 (int) uint
uint string_to_uint64 (string) uint
.contains contains_string (string,string) bool
.endsWith ends_with_string (string,string) bool
.startsWith starts_with_string (string,string) bool
.matches matches_string (string,string) bool
matches matches (string,string) bool
.getFullYear timestamp_to_year (timestamp) int
.getFullYear timestamp_to_year_with_tz (timestamp,string) int
.getMonth timestamp_to_month (timestamp) int
.getMonth timestamp_to_month_with_tz (timestamp,string) int
.getDayOfYear timestamp_to_day_of_year (timestamp) int
.getDayOfYear timestamp_to_day_of_year_with_tz (timestamp,string) int
.getDayOfMonth timestamp_to_day_of_month (timestamp) int
.getDayOfMonth timestamp_to_day_of_month_with_tz (timestamp,string) int
.getDate timestamp_to_day_of_month_1_based (timestamp) int
.getDate timestamp_to_day_of_month_1_based_with_tz (timestamp,string) int
.getDayOfWeek timestamp_to_day_of_week (timestamp) int
.getDayOfWeek timestamp_to_day_of_week_with_tz (timestamp,string) int
.getHours timestamp_to_hours (timestamp) int
.getHours timestamp_to_hours_with_tz (timestamp,string) int
.getHours duration_to_hours (duration) int
.getMinutes timestamp_to_minutes (timestamp) int
.getMinutes timestamp_to_minutes_with_tz (timestamp,string) int
.getMinutes duration_to_minutes (duration) int
.getSeconds timestamp_to_seconds (timestamp) int
.getSeconds timestamp_to_seconds_tz (timestamp,string) int
.getSeconds duration_to_seconds (duration) int
.getMilliseconds timestamp_to_milliseconds (timestamp) int
.getMilliseconds timestamp_to_milliseconds_with_tz (timestamp,string) int
.getMilliseconds duration_to_milliseconds (duration) int
optional.none optional_none () opt<A>
optional.of optional_of (A) opt<A>
optional.ofNonZeroValue optional_ofNonZeroValue (A) opt<A>
.hasValue optional_hasValue (opt<A>) bool
.value optional_value (opt<A>) A
.or optional_or_optional (opt<A>,opt<A>) opt<A>
.orValue optional_orValue_value (opt<A>,A) A
.charAt string_char_at_int (string,int) string
.indexOf string_index_of_string (string,string) int
.indexOf string_index_of_string_int (string,string,int) int
.indexOf list_a_index_of_int (list<A>,A) int
.lastIndexOf string_last_index_of_string (string,string) int
.lastIndexOf string_last_index_of_string_int (string,string,int) int
.lastIndexOf list_a_last_index_of_int (list<A>,A) int
.join list_join (list<string>) string
.join list_join_string (list<string>,string) string
.lowerAscii string_lower_ascii (string) string
.upperAscii string_upper_ascii (string) string
.replace string_replace_string_string (string,string,string) string
.replace string_replace_string_string_int (string,string,string,int) string
.split string_split_string (string,string) list<string>
.split string_split_string_int (string,string,int) list<string>
.substring string_substring_int (string,int) string
.substring string_substring_int_int (string,int,int) string
.trim string_trim (string) string
.format string_format (string,list<dyn>) string
strings.quote strings_quote (string) string
.find string_find_string (string,string) string
.findAll string_find_all_string (string,string) list<string>
.findAll string_find_all_string_int (string,string,int) list<string>
.isSorted list_a_is_sorted_bool (list<A>) bool
.sum list_int_sum_int (list<int>) int
.sum list_uint_sum_uint (list<uint>) uint
.sum list_double_sum_double (list<double>) double
.sum list_duration_sum_duration (list<duration>) duration
.max list_a_max_a (list<A>) A
.min list_a_min_a (list<A>) A
.includes list_includes_dyn_dyn (dyn,dyn) bool
.distinct list_distinct (list<A>) list<A>
.flatten list_flatten (list<list<A>>) list<A>
.reverse list_reverse (list<A>) list<A>
.slice list_slice (list<A>,int,int) list<A>
.sort list_sort (list<A>) list<A>
lists.range lists_range (int) list<int>
sets.contains list_sets_contains_list (list<A>,list<A>) bool
sets.equivalent list_sets_equivalent_list (list<A>,list<A>) bool
sets.intersects list_sets_intersects_list (list<A>,list<A>) bool
url string_to_url (string) kubernetes.URL
isURL is_url_string (string) bool
.getScheme url_get_scheme (kubernetes.URL) string
.getHost url_get_host (kubernetes.URL) string
.getHostname url_get_hostname (kubernetes.URL) string
.getPort url_get_port (kubernetes.URL) string
.getEscapedPath url_get_escaped_path (kubernetes.URL) string
.getQuery url_get_query (kubernetes.URL) map<string,list<string>>
quantity string_to_quantity (string) kubernetes.Quantity
isQuantity is_quantity_string (string) bool
.sign quantity_sign (kubernetes.Quantity) int
.isGreaterThan quantity_is_greater_than (kubernetes.Quantity,kubernetes.Quantity) bool
.isGreaterThan semver_is_greater_than (kubernetes.Semver,kubernetes.Semver) bool
.isLessThan quantity_is_less_than (kubernetes.Quantity,kubernetes.Quantity) bool
.isLessThan semver_is_less_than (kubernetes.Semver,kubernetes.Semver) bool
.compareTo quantity_compare_to (kubernetes.Quantity,kubernetes.Quantity) int
.compareTo semver_compare_to (kubernetes.Semver,kubernetes.Semver) int
.asApproximateFloat quantity_get_float (kubernetes.Quantity) double
.asInteger quantity_get_int (kubernetes.Quantity) int
.isInteger quantity_is_integer (kubernetes.Quantity) bool
.add quantity_add (kubernetes.Quantity,kubernetes.Quantity) kubernetes.Quantity
.add quantity_add_int (kubernetes.Quantity,int) kubernetes.Quantity
.sub quantity_sub (kubernetes.Quantity,kubernetes.Quantity) kubernetes.Quantity
.sub quantity_sub_int (kubernetes.Quantity,int) kubernetes.Quantity
ip string_to_ip (string) net.IP
isIP is_ip (string) bool
ip.isCanonical ip_is_canonical (string) bool
.family ip_family (net.IP) int
.isUnspecified ip_is_unspecified (net.IP) bool
.isLoopback ip_is_loopback (net.IP) bool
.isLinkLocalMulticast ip_is_link_local_multicast (net.IP) bool
.isLinkLocalUnicast ip_is_link_local_unicast (net.IP) bool
.isGlobalUnicast ip_is_global_unicast (net.IP) bool
cidr string_to_cidr (string) net.CIDR
isCIDR is_cidr (string) bool
.containsIP cidr_contains_ip_string (net.CIDR,string) bool
.containsIP cidr_contains_ip_ip (net.CIDR,net.IP) bool
.containsCIDR cidr_contains_cidr_string (net.CIDR,string) bool
.containsCIDR cidr_contains_cidr (net.CIDR,net.CIDR) bool
.ip cidr_ip (net.CIDR) net.IP
.prefixLength cidr_prefix_length (net.CIDR) int
.masked cidr_masked (net.CIDR) net.CIDR
semver string_to_semver (string) kubernetes.Semver
semver string_bool_to_semver (string,bool) kubernetes.Semver
isSemver is_semver_string (string) bool
isSemver is_semver_string_bool (string,bool) bool
.major semver_major (kubernetes.Semver) int
.minor semver_minor (kubernetes.Semver) int
.patch semver_patch (kubernetes.Semver) int
format.named format-named (string) opt<kubernetes.NamedFormat>
format.dns1123Label format.dns1123Label () kubernetes.NamedFormat
format.dns1123Subdomain format.dns1123Subdomain () kubernetes.NamedFormat
format.dns1035Label format.dns1035Label () kubernetes.NamedFormat
format.qualifiedName format.qualifiedName () kubernetes.NamedFormat
format.dns1123LabelPrefix format.dns1123LabelPrefix () kubernetes.NamedFormat
format.dns1123SubdomainPrefix format.dns1123SubdomainPrefix () kubernetes.NamedFormat
format.dns1035LabelPrefix format.dns1035LabelPrefix () kubernetes.NamedFormat
format.labelValue format.labelValue () kubernetes.NamedFormat
format.uri format.uri () kubernetes.NamedFormat
format.uuid format.uuid () kubernetes.NamedFormat
format.byte format.byte () kubernetes.NamedFormat
format.date format.date () kubernetes.NamedFormat
format.datetime format.datetime () kubernetes.NamedFormat
.validate format-validate (kubernetes.NamedFormat,string) opt<list<string>>
.path authorizer_path (kubernetes.authorization.Authorizer,string) kubernetes.authorization.PathCheck
.group authorizer_group (kubernetes.authorization.Authorizer,string) kubernetes.authorization.GroupCheck
.serviceAccount authorizer_serviceaccount (kubernetes.authorization.Authorizer,string,string) kubernetes.authorization.Authorizer
.resource groupcheck_resource (kubernetes.authorization.GroupCheck,string) kubernetes.authorization.ResourceCheck
.subresource resourcecheck_subresource (kubernetes.authorization.ResourceCheck,string) kubernetes.authorization.ResourceCheck
.namespace resourcecheck_namespace (kubernetes.authorization.ResourceCheck,string) kubernetes.authorization.ResourceCheck
.name resourcecheck_name (kubernetes.authorization.ResourceCheck,string) kubernetes.authorization.ResourceCheck
.fieldSelector authorizer_fieldselector (kubernetes.authorization.ResourceCheck,string) kubernetes.authorization.ResourceCheck
.labelSelector authorizer_labelselector (kubernetes.authorization.ResourceCheck,string) kubernetes.authorization.ResourceCheck
.check pathcheck_check (kubernetes.authorization.PathCheck,string) kubernetes.authorization.Decision
.check resourcecheck_check (kubernetes.authorization.ResourceCheck,string) kubernetes.authorization.Decision
.errored decision_errored (kubernetes.authorization.Decision) bool
.error decision_error (kubernetes.authorization.Decision) string
.allowed decision_allowed (kubernetes.authorization.Decision) bool
.reason decision_reason (kubernetes.authorization.Decision) string
jsonpatch.escapeKey string_jsonpatch_escapeKey_string (string) string
cel.@mapInsert @mapInsert_map_key_value (map<A,B>,A,B) map<A,B>
cel.@mapInsert @mapInsert_map_map (map<A,B>,map<A,B>) map<A,B>
";

/// Types of numbers that `<` compares with each other.
const COMPARED: [(&str, &str); 6] = [
    ("int", "int64"),
    ("uint", "uint64"),
    ("double", "double"),
    ("string", "string"),
    ("bool", "bool"),
    ("bytes", "bytes"),
];

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut found: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        // The table is compiled in, and a test reads it: a row that can't be read is left out.
        let Some((name, overload)) = read_row(line) else { continue };
        found.entry(name).or_default().push(overload);
    }
    for (function, verb) in
        [("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")]
    {
        found.insert(function, comparisons(verb));
    }
    found
});

/// The signatures of a function, whether it is called on something or not.
pub fn overloads(function: &str) -> &'static [Overload] {
    FUNCTIONS.get(function).map_or(&[], Vec::as_slice)
}

/// A function that isn't called on anything.
pub fn is_global(function: &str) -> bool {
    overloads(function).iter().any(|overload| !overload.member)
}

fn comparisons(verb: &str) -> Vec<Overload> {
    let simple = |name: &str| Template::Plain(simple(name).unwrap_or(Simple::Dyn));
    let overload = |id: String, a: &str, b: &str| Overload {
        // A few dozen names, made once a process.
        id: Box::leak(id.into_boxed_str()),
        member: false,
        args: vec![simple(a), simple(b)],
        result: Template::Plain(Simple::Bool),
    };
    let mut all: Vec<Overload> =
        COMPARED.iter().map(|(ty, id)| overload(format!("{verb}_{id}"), ty, ty)).collect();
    for ty in ["timestamp", "duration"] {
        all.push(overload(format!("{verb}_{ty}"), ty, ty));
    }
    let numbers = &COMPARED[..3];
    for (a, a_id) in numbers {
        for (b, b_id) in numbers.iter().filter(|(b, _)| b != a) {
            all.push(overload(format!("{verb}_{a_id}_{b_id}"), a, b));
        }
    }
    all
}

fn read_row(line: &'static str) -> Option<(&'static str, Overload)> {
    let mut words = line.splitn(3, ' ');
    let (name, id, signature) = (words.next()?, words.next()?, words.next()?);
    let (args, result) = signature.strip_prefix('(')?.rsplit_once(") ")?;
    let args = split(args).into_iter().map(template).collect::<Option<_>>()?;
    let member = name.starts_with('.');
    let result = template(result)?;
    Some((name.trim_start_matches('.'), Overload { id, member, args, result }))
}

/// Splits at commas outside of angle brackets.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut out, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' => depth -= 1,
            b',' if depth == 0 => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

fn template(text: &'static str) -> Option<Template> {
    if let Some(inner) = text.strip_suffix('>') {
        let (outer, inner) = inner.split_once('<')?;
        let mut inner = split(inner).into_iter().map(template).collect::<Option<Vec<_>>>()?;
        let last = Box::new(inner.pop()?);
        return Some(match (outer, inner.pop()) {
            ("list", None) => Template::List(last),
            ("opt", None) => Template::Optional(last),
            ("map", Some(key)) => Template::Map(Box::new(key), last),
            _ => return None,
        });
    }
    Some(match text {
        "A" => Template::Param(0),
        "B" => Template::Param(1),
        "type" => Template::TypeOf,
        other => Template::Plain(simple(other).unwrap_or(Simple::Opaque(other))),
    })
}

fn simple(text: &str) -> Option<Simple> {
    Some(match text {
        "dyn" => Simple::Dyn,
        "null" => Simple::Null,
        "bool" => Simple::Bool,
        "int" => Simple::Int,
        "uint" => Simple::Uint,
        "double" => Simple::Double,
        "string" => Simple::String,
        "bytes" => Simple::Bytes,
        "timestamp" => Simple::Timestamp,
        "duration" => Simple::Duration,
        _ => return None,
    })
}

impl Template {
    /// The type, with `vars` for the parameters.
    pub fn with(&self, vars: &[Type; 2]) -> Type {
        match self {
            Template::Param(at) => vars[(*at as usize).min(1)].clone(),
            Template::Plain(simple) => simple.ty(),
            Template::List(inner) => Type::List(Arc::new(inner.with(vars))),
            Template::Map(key, value) => {
                Type::Map(Arc::new(key.with(vars)), Arc::new(value.with(vars)))
            }
            Template::Optional(inner) => Type::Optional(Arc::new(inner.with(vars))),
            Template::TypeOf => Type::TypeOf(Arc::new(vars[0].clone())),
        }
    }
}

impl Simple {
    fn ty(self) -> Type {
        match self {
            Simple::Dyn => Type::Dyn,
            Simple::Null => Type::Null,
            Simple::Bool => Type::Bool,
            Simple::Int => Type::Int,
            Simple::Uint => Type::Uint,
            Simple::Double => Type::Double,
            Simple::String => Type::String,
            Simple::Bytes => Type::Bytes,
            Simple::Timestamp => Type::Timestamp,
            Simple::Duration => Type::Duration,
            Simple::Opaque(name) => Type::Opaque(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read() {
        let rows = TABLE.lines().filter(|line| !line.is_empty()).count();
        let read: usize = FUNCTIONS
            .iter()
            .filter(|(name, _)| !["_<_", "_<=_", "_>_", "_>=_"].contains(name))
            .map(|(_, all)| all.len())
            .sum();
        assert_eq!(rows, read);
        assert_eq!(overloads("_<_").len(), 14);
    }
}
