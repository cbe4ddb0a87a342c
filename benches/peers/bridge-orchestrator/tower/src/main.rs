//! The crate tower: `Balance` by two choices over `PeakEwma`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use bridge_orchestrator_contest::{Balances, Contest};
use futures::executor::block_on;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower::{Service, ServiceExt};

fn main() -> ExitCode {
    Contest::of("tower").balances::<Endpoints>().run()
}

#[derive(Clone, Copy)]
struct Endpoint(u64);

impl Service<()> for Endpoint {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

type Loaded = PeakEwma<Endpoint>;

struct Endpoints(Balance<ServiceList<Vec<Loaded>>, ()>);

impl Balances for Endpoints {
    const NOTE: &'static str = "p2c Balance over PeakEwma, which reads the clock itself; polled where it is called";

    fn over(endpoints: u64) -> Self {
        let loaded = |number| {
            let nanos = |time: Duration| time.as_nanos() as f64;
            let complete = CompleteOnResponse::default();
            PeakEwma::new(Endpoint(number), Duration::from_millis(30), nanos(Duration::from_secs(10)), complete)
        };
        let endpoints: Vec<Loaded> = (0..endpoints).map(loaded).collect();
        Self(Balance::new(ServiceList::new(endpoints)))
    }

    fn call(&mut self, calls: u64, answered: &mut [u64]) {
        block_on(async {
            for _ in 0..calls {
                let ready = self.0.ready().await.expect("endpoints do not fail");
                let endpoint = ready.call(()).await.expect("endpoints do not fail");
                answered[endpoint as usize] += 1;
            }
        });
    }
}
