//! A Vulkan device and the kernels on it.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use wgpu::{
    Adapter, Backends, BindGroupDescriptor, BindGroupEntry, Buffer, BufferDescriptor, BufferUsages,
    ComputePipeline, ComputePipelineDescriptor, DeviceDescriptor, DeviceType, Instance, InstanceDescriptor,
    Limits, MapMode, PollType, Queue, ShaderModuleDescriptor, ShaderSource,
};

use super::{GpuError, Pick};

/// The longest that a device may work on what was handed to it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Kernels in WGSL, by the names of their entry points.
pub(super) struct Program {
    pub(super) source: String,
    pub(super) kernels: &'static [&'static str],
    /// What of the device's limits they need.
    pub(super) limits: Limits,
}

/// An open device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    device: wgpu::Device,
    queue: Queue,
    kernels: Vec<(&'static str, ComputePipeline)>,
    /// What its driver complained of first.
    problem: Arc<Mutex<Option<String>>>,
}

impl Device {
    /// Opens the best device, with the program that `make` writes for its limits.
    pub(super) fn open(
        pick: Pick,
        make: impl FnOnce(Limits) -> Result<Program, GpuError>,
    ) -> Result<Self, GpuError> {
        let descriptor = InstanceDescriptor {
            backends: Backends::VULKAN,
            ..InstanceDescriptor::new_without_display_handle()
        };
        let adapters = pollster::block_on(Instance::new(descriptor).enumerate_adapters(Backends::VULKAN));
        let adapter = choose(adapters, pick)?;
        let Program { source, kernels, limits } = make(adapter.limits())?;
        let asked = DeviceDescriptor { required_limits: limits, ..DeviceDescriptor::default() };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&asked)).map_err(|error| failed(&error))?;
        let problem = Arc::new(Mutex::new(None));
        let told = problem.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
        }));
        let module = device.create_shader_module(ShaderModuleDescriptor {
            label: None,
            source: ShaderSource::Wgsl(source.into()),
        });
        let pipeline = |kernel: &'static str| {
            device.create_compute_pipeline(&ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some(kernel),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        let kernels = kernels.iter().map(|kernel| (*kernel, pipeline(kernel))).collect();
        let this = Self { name: adapter.get_info().name, device, queue, kernels, problem };
        this.sound()?;
        Ok(this)
    }

    /// An error where the driver complained of anything since it was opened.
    fn sound(&self) -> Result<(), GpuError> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        problem.map_or(Ok(()), |problem| Err(GpuError::Device(problem)))
    }

    pub(super) fn buffer(&self, bytes: usize) -> Result<Buffer, GpuError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let buffer = self.device.create_buffer(&describe(bytes, usage));
        self.sound()?;
        Ok(buffer)
    }

    /// A buffer that begins with `bytes`.
    pub(super) fn filled(&self, bytes: &[u8]) -> Result<Buffer, GpuError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = self.device.create_buffer(&describe(bytes.len(), usage));
        self.queue.write_buffer(&buffer, 0, bytes);
        self.sound()?;
        Ok(buffer)
    }

    /// Hands a kernel over, in `groups` of threads: `told` is its uniform at 0, `bound` its buffers.
    pub(super) fn run(
        &self,
        kernel: &str,
        told: &[u8],
        bound: &[(u32, &Buffer)],
        groups: [usize; 2],
    ) -> Result<(), GpuError> {
        let Some((_, pipeline)) = self.kernels.iter().find(|(known, _)| *known == kernel) else {
            return Err(GpuError::Device(format!("it has no {kernel}")));
        };
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let uniform = self.device.create_buffer(&describe(told.len(), usage));
        self.queue.write_buffer(&uniform, 0, told);
        let entries: Vec<BindGroupEntry<'_>> = std::iter::once((0, &uniform))
            .chain(bound.iter().copied())
            .map(|(binding, buffer)| BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group = self.device.create_bind_group(&BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        });
        let mut commands = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            let [x, y] = groups.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            pass.dispatch_workgroups(x, y, 1);
        }
        self.queue.submit([commands.finish()]);
        self.sound()
    }

    /// Waits for all that was handed over, and reads a part of a buffer.
    pub(super) fn read(&self, from: &Buffer, first: usize, bytes: usize) -> Result<Vec<u8>, GpuError> {
        let here =
            self.device.create_buffer(&describe(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST));
        let mut commands = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        commands.copy_buffer_to_buffer(from, first as u64, &here, 0, bytes as u64);
        self.queue.submit([commands.finish()]);
        let (done, mapped) = mpsc::channel();
        here.map_async(MapMode::Read, .., move |result| {
            // Nobody waits any more where the device took too long.
            let _ = done.send(result);
        });
        let wait = PollType::Wait { submission_index: None, timeout: Some(PATIENCE) };
        self.device.poll(wait).map_err(|error| failed(&error))?;
        self.sound()?;
        let mapped = mapped.try_recv().map_err(|_| GpuError::Device("it took too long".into()))?;
        mapped.map_err(|error| failed(&error))?;
        let view = here.get_mapped_range(..).map_err(|error| failed(&error))?;
        Ok(view.to_vec())
    }
}

fn failed(error: &dyn std::error::Error) -> GpuError {
    GpuError::Device(error.to_string())
}

const fn describe(bytes: usize, usage: BufferUsages) -> BufferDescriptor<'static> {
    BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false }
}

/// The largest kind of device that will do: a card of its own before a part of the processor.
fn choose(adapters: Vec<Adapter>, pick: Pick) -> Result<Adapter, GpuError> {
    let rank = |kind: DeviceType| match kind {
        DeviceType::DiscreteGpu => Some(0),
        DeviceType::VirtualGpu => Some(1),
        DeviceType::IntegratedGpu => Some(2),
        DeviceType::Cpu | DeviceType::Other => (pick == Pick::Any).then_some(3),
    };
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let best = adapters
        .into_iter()
        .filter_map(|adapter| Some((rank(adapter.get_info().device_type)?, adapter)))
        .min_by_key(|(rank, _)| *rank);
    let others = if names.is_empty() { String::new() } else { format!(", only {}", names.join(", ")) };
    best.map(|(_, adapter)| adapter).ok_or(GpuError::None(others))
}
