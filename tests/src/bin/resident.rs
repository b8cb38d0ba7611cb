//! An empty program: `.ci/size.sh` compares with it what a server's code and memory come to.

fn main() {
    println!("empty");
    loop {
        std::thread::park();
    }
}
