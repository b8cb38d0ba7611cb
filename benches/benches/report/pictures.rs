//! The report's pictures, as SVG: how the ratios lie, and the curves of what grows.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use benches::Figure;
use benches::report::{curves, growing, overview};
use plotters::coord::Shift;
use plotters::prelude::*;

/// The same color for a runtime in all pictures: the place of its name's beginning in this list.
const COLORS: [(&str, RGBColor); 9] = [
    ("anteroom", RGBColor(0, 0, 0)),
    ("tokio LocalRuntime", RGBColor(230, 159, 0)),
    ("tokio", RGBColor(213, 94, 0)),
    ("smol", RGBColor(0, 158, 115)),
    ("monoio io_uring", RGBColor(0, 114, 178)),
    ("monoio legacy", RGBColor(86, 180, 233)),
    ("compio", RGBColor(204, 121, 167)),
    ("glommio", RGBColor(148, 103, 189)),
    ("bare epoll", RGBColor(127, 127, 127)),
];

fn color(runtime: &str) -> RGBColor {
    COLORS.iter().find(|(name, _)| runtime.starts_with(name)).map_or(RED, |(_, color)| *color)
}

/// Draws all that there are figures for; gives the files' names and titles.
pub(crate) fn draw(figures: &[Figure], out: &Path) -> Vec<(String, String)> {
    let mut pictures = Vec::new();
    let mut add = |file: String, title: String, drawn: Result<bool, Box<dyn Error>>| {
        if drawn.unwrap_or_else(|error| panic!("{file}: {error}")) {
            pictures.push((file, title));
        }
    };
    for (section, title) in [("one_thread", "One thread"), ("two_workers", "Two workers")] {
        let file = format!("{section}.svg");
        let title = format!("{title}: how many times better anteroom is");
        let drawn = ratios(&overview(figures, section), &title, &out.join(&file));
        add(file, title, drawn);
    }
    for (section, workload, unit) in growing(figures) {
        let file = format!("{section}-{}.svg", workload.replace([' ', ','], "_"));
        let title = format!("{}: {workload}, {unit}", section.replace('_', " "));
        let drawn = curve(figures, &section, &workload, &title, &out.join(&file));
        add(file, title, drawn);
    }
    pictures
}

fn white<'a>(file: &'a Path, size: (u32, u32)) -> Result<DrawingArea<SVGBackend<'a>, Shift>, Box<dyn Error>> {
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

/// The least and the most, on a scale whose steps are factors, with some room.
fn range(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.fold(f64::MIN_POSITIVE, f64::max);
    least / 1.3..most * 1.3
}

/// A line for each workload, the worst at the top, and on it a point for each runtime; left of one, anteroom loses.
fn ratios(
    workloads: &[(String, Vec<(String, f64)>)],
    title: &str,
    file: &Path,
) -> Result<bool, Box<dyn Error>> {
    let all = workloads.iter().flat_map(|(_, ratios)| ratios.iter().map(|(_, ratio)| *ratio));
    if all.clone().next().is_none() {
        return Ok(false);
    }
    let area = white(file, (900, 110 + 26 * workloads.len() as u32))?;
    // With room for the names at the right.
    let Range { start, end } = range(all.chain([1.0]));
    let across = start..end * 3.0;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(250)
        .build_cartesian_2d(across.log_scale(), (0..workloads.len()).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => {
            workloads.iter().rev().nth(*at).map_or(String::new(), |(name, _)| name.clone())
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .y_labels(workloads.len() + 1)
        .y_label_formatter(&name)
        .x_label_formatter(&|x| x.to_string())
        .light_line_style(TRANSPARENT)
        .draw()?;
    let top = SegmentValue::Exact(0);
    let bottom = SegmentValue::Exact(workloads.len());
    chart.draw_series([PathElement::new(vec![(1.0, top), (1.0, bottom)], BLACK.stroke_width(2))])?;
    let mut runtimes: Vec<&str> = Vec::new();
    for runtime in workloads.iter().flat_map(|(_, ratios)| ratios.iter().map(|(runtime, _)| &**runtime)) {
        if !runtimes.contains(&runtime) {
            runtimes.push(runtime);
        }
    }
    for runtime in runtimes {
        let points = workloads.iter().rev().enumerate().flat_map(|(at, (_, ratios))| {
            let of_it = ratios.iter().filter(|(other, _)| other == runtime);
            of_it.map(move |(_, ratio)| (*ratio, SegmentValue::CenterOf(at)))
        });
        let color = color(runtime);
        chart
            .draw_series(points.map(|point| Circle::new(point, 5, color.filled())))?
            .label(runtime)
            .legend(move |(x, y)| Circle::new((x + 8, y), 5, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(true)
}

/// What grows across, and what it costs up, both in factors.
fn curve(
    figures: &[Figure],
    section: &str,
    workload: &str,
    title: &str,
    file: &Path,
) -> Result<bool, Box<dyn Error>> {
    let curves = curves(figures, section, workload);
    let points = || curves.iter().flat_map(|(_, points)| points.iter().copied());
    // A point is no curve.
    if !curves.iter().any(|(_, points)| points.len() > 1) || points().any(|(x, y)| x <= 0.0 || y <= 0.0) {
        return Ok(false);
    }
    let values: Vec<(f64, f64)> = points().collect();
    let across = range(values.iter().map(|(x, _)| *x));
    let up = range(values.iter().map(|(_, y)| *y));
    let area = white(file, (900, 480))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|x| x.to_string())
        .y_label_formatter(&|y| y.to_string())
        .draw()?;
    for (runtime, points) in &curves {
        let color = color(runtime);
        // What spawns no task a job is drawn thin.
        let width = if runtime.contains(", ") && !runtime.ends_with("then spawn") { 1 } else { 2 };
        let style = color.stroke_width(if *runtime == "anteroom" { 4 } else { width });
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(*runtime)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(true)
}
