//! `report.html` in a browser: what is shown, not what is written. Needs Debian's `chromium` and `chromium-driver`:
//! `cargo test -p gate --test browser -- --ignored`.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gate::rivals::{Rival, keep};
use harness::metric::Metric;
use harness::record::{Figure, Interval, Record};
use serde_json::{Value, json};
use support::{Project, manifest, record};

/// What the page calls a benchmark that would be a script if it were not text.
const SCRIPT: &str = "x/<script>document.title='broken'</script>/y";

/// chromedriver with one window, both gone with this value.
struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
}

impl Browser {
    fn open(page: &Path) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("no chromedriver: apt-get install chromium chromium-driver");
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build();
        let mut browser = Self { driver, session: String::new(), agent: config.into() };
        let root = format!("http://127.0.0.1:{port}");
        let began = Instant::now();
        while browser.agent.get(format!("{root}/status")).call().is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "chromedriver does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let arguments =
            ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--disable-dev-shm-usage"];
        let options = json!({ "goog:chromeOptions": { "args": arguments } });
        let session = browser.post(&format!("{root}/session"), &json!({ "capabilities": { "alwaysMatch": options } }));
        browser.session = format!("{root}/session/{}", session["sessionId"].as_str().expect("a session"));
        browser.command("url", &json!({ "url": format!("file://{}", page.display()) }));
        browser
    }

    fn post(&self, address: &str, body: &Value) -> Value {
        let mut answer = self.agent.post(address).send_json(body).unwrap_or_else(|error| panic!("{address}: {error}"));
        answer.body_mut().read_json::<Value>().expect("JSON")["value"].take()
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        self.post(&format!("{}/{name}", self.session), body)
    }

    /// What `expression` is in the page.
    fn value(&self, expression: &str) -> Value {
        self.command("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// The elements of `selector`: their address, if they can be seen, and their text as it is seen.
    fn elements(&self, selector: &str) -> Vec<Element<'_>> {
        let found = self.command("elements", &json!({ "using": "css selector", "value": selector }));
        let ids = found.as_array().expect("elements").iter().filter_map(|element| element.as_object()?.values().next());
        ids.map(|id| Element {
            browser: self,
            address: format!("{}/element/{}", self.session, id.as_str().expect("an id")),
        })
        .collect()
    }

    fn shown(&self, selector: &str) -> Vec<String> {
        self.elements(selector).iter().filter(|element| element.is_shown()).map(Element::text).collect()
    }

    fn one(&self, selector: &str) -> Element<'_> {
        let mut found = self.elements(selector);
        assert_eq!(found.len(), 1, "{selector}");
        found.remove(0)
    }

    /// The names of the benchmarks that can be seen.
    fn benchmarks(&self) -> Vec<String> {
        let headings = self.shown("section h2");
        headings.iter().map(|text| text.rsplit(' ').next().unwrap_or_default().to_owned()).collect()
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.agent.delete(&self.session).call();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

struct Element<'b> {
    browser: &'b Browser,
    address: String,
}

impl Element<'_> {
    fn get(&self, what: &str) -> Value {
        let mut answer = self.browser.agent.get(format!("{}/{what}", self.address)).call().expect("an answer");
        answer.body_mut().read_json::<Value>().expect("JSON")["value"].take()
    }

    fn is_shown(&self) -> bool {
        self.get("displayed").as_bool().expect("yes or no")
    }

    fn text(&self) -> String {
        self.get("text").as_str().expect("text").to_owned()
    }

    fn click(&self) {
        self.browser.post(&format!("{}/click", self.address), &json!({}));
    }

    /// Types `text` in place of what is there.
    fn fill(&self, text: &str) {
        self.browser.post(&format!("{}/clear", self.address), &json!({}));
        self.browser.post(&format!("{}/value", self.address), &json!({ "text": text }));
    }
}

fn sampled(bench: &str, value: f64) -> Record {
    let mut record = record(bench, Metric::LatencyMean, value * 0.95, value, value * 1.04);
    let p99 = Interval { lo: value * 4.9, hi: value * 5.2, level: 0.95 };
    record.metrics.push(Figure::sampled(Metric::LatencyP99, value * 5.0, p99));
    let mut histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
    (100..1_100).for_each(|value| histogram.record(value).expect("inside"));
    let mut bytes = Vec::new();
    use base64::Engine as _;
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};
    V2Serializer::new().serialize(&histogram, &mut bytes).expect("into memory");
    Record { histogram: Some(base64::engine::general_purpose::STANDARD.encode(bytes)), ..record }
}

fn rival(peer: &str, ratio: f64, revision: &str) -> Rival {
    Rival {
        work: "save/1".to_owned(),
        peer: peer.to_owned(),
        ours: Some(100.0),
        theirs: Some(100.0 * ratio),
        unit: "ns".to_owned(),
        ratio: Some(ratio),
        interval: Some([ratio * 0.9, ratio * 1.1]),
        success: None,
        missing: None,
        limit: Some("at least 1 times as good".to_owned()),
        verdict: Some("PASS".to_owned()),
        revision: revision.to_owned(),
    }
}

/// A benchmark that passes, beside a rival; one that fails; one with little headroom; one outside the profile; one whose name is a script.
fn project() -> Project {
    let project = Project::new(&format!(
        r#"[bench."store/save/1"]
seed = {{ latency.mean = "< 1 ms" }}
own = {{ latency.mean = "1us", latency.p99 = "2us" }}
versus = [{{ of = "peers/store/save/1/maps", metric = "latency.mean", at_least_times = 1.0 }}]
[bench."store/load/1"]
own = {{ latency.mean = "10ns" }}
[bench."bus/publish/1"]
own = {{ latency.mean = "105ns" }}
[bench."slow/case/1"]
own = {{ latency.mean = "1us" }}
[bench."{SCRIPT}"]
own = {{ latency.mean = "1us" }}
[profile.short]
exclude = ["slow/*"]
"#
    ));
    let benches = ["store/save/1", "store/load/1", "bus/publish/1", "slow/case/1", SCRIPT];
    project.manifest(&manifest(&benches));
    std::fs::remove_file(project.latest().join("a+b+c.op.json")).expect("was there");
    for bench in benches {
        let file = if bench == SCRIPT { "script.json".to_owned() } else { format!("{}.json", bench.replace('/', "+")) };
        project.file(&format!("out/latest/{file}"), &serde_json::to_string(&sampled(bench, 100.0)).expect("JSON"));
    }
    let rivals = [rival("maps", 3.0, "no commit"), rival("old-one", 0.5, "0123456789ab")];
    keep(&project.path("out"), "store", &rivals, true).expect("kept");
    project
}

fn page() -> (Project, Browser) {
    let project = project();
    let run = project.check(&["--profile", "short"]);
    assert_eq!(run.code(), 1, "{}{}", run.text(), run.errors());
    let browser = Browser::open(&project.path("out/report.html").canonicalize().expect("written"));
    (project, browser)
}

#[test]
#[ignore = "needs a browser; .ci/run runs it"]
fn what_slips_is_seen_first_and_filters_show_what_they_name() {
    let (_project, browser) = page();
    assert_eq!(browser.one(".lead").text(), "One limit is missed.");
    assert_eq!(browser.shown(".chip"), ["1 FAIL", "1 WARN", "5 PASS", "1 NOT SELECTED"]);
    assert_eq!(browser.benchmarks(), ["store/load/1", "bus/publish/1", "store/save/1", SCRIPT]);
    assert_eq!(browser.one("#shown").text(), "4 of 5 benchmarks shown");
    assert!(
        browser.shown(".reason").iter().any(|text| text.contains("misses <= 10 ns")),
        "{:?}",
        browser.shown(".reason")
    );

    let chip = |name: &str| browser.one(&format!(".chip[data-verdict={name}]")).click();
    chip("warn");
    assert_eq!(browser.benchmarks(), ["bus/publish/1"]);
    chip("fail");
    assert_eq!(browser.benchmarks(), ["store/load/1", "bus/publish/1"]);
    let filter = browser.one("#filter");
    filter.fill("store");
    assert_eq!(browser.benchmarks(), ["store/load/1"]);
    assert_eq!(browser.one("#shown").text(), "1 of 5 benchmarks shown");
    chip("warn");
    chip("fail");
    assert_eq!(browser.benchmarks(), ["store/load/1", "store/save/1"]);
    filter.fill("SAVE store");
    assert_eq!(browser.benchmarks(), ["store/save/1"]);
    assert!(!browser.one("#none").is_shown());
    filter.fill("nothing like it");
    assert_eq!(browser.benchmarks(), Vec::<String>::new());
    assert!(browser.one("#none").is_shown());
    filter.fill("slow");
    assert_eq!(browser.benchmarks(), Vec::<String>::new(), "outside the profile");
    chip("outside");
    assert_eq!(browser.benchmarks(), ["slow/case/1"]);
}

#[test]
#[ignore = "needs a browser; .ci/run runs it"]
fn limits_rivals_and_pictures_are_seen() {
    let (_project, browser) = page();
    browser.one("#filter").fill("store/save/1");
    let limits = browser.shown("section:not([hidden]) table:not(.rivals) tbody tr");
    assert!(limits[0].starts_with("the original latency.mean 100 ns [95 ns, 104 ns] < 1 ms"), "{limits:?}");
    assert!(limits[1].starts_with("ours latency.mean 100 ns"), "{limits:?}");
    assert_eq!(limits.len(), 3, "limits against rivals are judged elsewhere: {limits:?}");
    let rivals = browser.shown("section:not([hidden]) .rivals tbody tr");
    assert!(
        rivals[0].starts_with("maps 100 ns 300 ns 3.00x [2.70x, 3.30x] at least 1 times as good PASS"),
        "{rivals:?}"
    );
    assert!(rivals[1].contains("0.50x") && rivals[1].contains("measured at 0123456789ab"), "{rivals:?}");
    let short = browser.one("#rivals").text();
    assert_eq!(
        short,
        "Beside rivals: ahead in 1 of 2 comparisons, behind in 1, some of them measured on another state of the sources."
    );
    let sizes = browser.value(
        "[...document.querySelectorAll('section:not([hidden]) svg')].map(svg => { const box = svg.getBoundingClientRect(); return Math.min(box.width, box.height) })",
    );
    let sizes = sizes.as_array().expect("sizes");
    assert_eq!(sizes.len(), 4, "three bars and a distribution");
    assert!(sizes.iter().all(|size| size.as_f64().is_some_and(|size| size > 5.0)), "{sizes:?}");
    assert!(browser.shown("footer dd").iter().any(|text| text.contains("rustc")), "{:?}", browser.shown("footer dd"));
}

#[test]
#[ignore = "needs a browser; .ci/run runs it"]
fn it_fits_a_phone_in_light_and_dark_and_asks_nobody_for_anything() {
    let (_project, browser) = page();
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.devtools("Emulation.setEmulatedMedia", &feature);
        for width in [1_000, 390] {
            let size = json!({ "width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500 });
            browser.devtools("Emulation.setDeviceMetricsOverride", &size);
            assert_eq!(browser.value("innerWidth"), width);
            let wide = browser.value("document.documentElement.scrollWidth").as_u64().expect("pixels");
            assert!(wide <= width, "{wide} pixels on a screen of {width}");
            let beyond = browser.value(
                "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))",
            );
            assert_eq!(beyond, json!([]), "{width}");
            assert!(browser.one(".lead").is_shown() && browser.shown(".chip").len() == 4);
        }
        grounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1], "light and dark");
    assert_eq!(browser.value("performance.getEntriesByType('resource').length"), 0, "no request but the page itself");
    assert_eq!(browser.value("document.title"), "Gate", "a name is text, also one that is a script");
}
