//! A Vulkan device and the kernels on it.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use alloy_primitives::B256;
use wgpu::{
    Adapter, Backends, BindGroupDescriptor, BindGroupEntry, Buffer, BufferDescriptor, BufferUsages,
    ComputePipeline, ComputePipelineDescriptor, DeviceDescriptor, DeviceType, Instance, InstanceDescriptor,
    Limits, MapMode, PollType, Queue, ShaderModuleDescriptor, ShaderSource,
};

use super::{GpuError, Pick};

/// The longest that a device may work on what was handed to it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Words of [`Shape`].
const SHAPE_WORDS: usize = 12;

/// A program of `kernels.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Expand,
    Multiply,
    Leaves,
    Pairs,
}

impl Kernel {
    const ALL: [Self; 4] = [Self::Expand, Self::Multiply, Self::Leaves, Self::Pairs];

    const fn name(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Multiply => "multiply",
            Self::Leaves => "leaves",
            Self::Pairs => "pairs",
        }
    }
}

/// What a kernel is told, as its own text names it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    pub(super) seed: B256,
    pub(super) side_or_column: usize,
    pub(super) line_or_columns: usize,
    pub(super) count: usize,
    pub(super) words: usize,
}

impl Shape {
    fn bytes(&self) -> Vec<u8> {
        let numbers = [self.side_or_column, self.line_or_columns, self.count, self.words];
        let numbers = numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        [self.seed.as_slice(), numbers.as_flattened()].concat()
    }
}

/// An open device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    device: wgpu::Device,
    queue: Queue,
    kernels: Vec<(Kernel, ComputePipeline)>,
    /// What its driver complained of first.
    problem: Arc<Mutex<Option<String>>>,
}

impl Device {
    pub(super) fn open(pick: Pick) -> Result<Self, GpuError> {
        let descriptor = InstanceDescriptor {
            backends: Backends::VULKAN,
            ..InstanceDescriptor::new_without_display_handle()
        };
        let adapters = pollster::block_on(Instance::new(descriptor).enumerate_adapters(Backends::VULKAN));
        let adapter = choose(adapters, pick)?;
        let asked =
            DeviceDescriptor { required_limits: Limits::downlevel_defaults(), ..DeviceDescriptor::default() };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&asked)).map_err(|error| failed(&error))?;
        let problem = Arc::new(Mutex::new(None));
        let told = problem.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
        }));
        let module = device.create_shader_module(ShaderModuleDescriptor {
            label: None,
            source: ShaderSource::Wgsl(include_str!("kernels.wgsl").into()),
        });
        let pipeline = |kernel: Kernel| {
            device.create_compute_pipeline(&ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some(kernel.name()),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        let kernels = Kernel::ALL.map(|kernel| (kernel, pipeline(kernel))).into();
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

    /// Hands a kernel over, in `groups` of threads. `of` are its first and second operand.
    pub(super) fn run(
        &self,
        kernel: Kernel,
        shape: &Shape,
        of: [Option<&Buffer>; 2],
        out: &Buffer,
        groups: [usize; 2],
    ) -> Result<(), GpuError> {
        let Some((_, pipeline)) = self.kernels.iter().find(|(known, _)| *known == kernel) else {
            return Err(GpuError::Device(format!("it has no {}", kernel.name())));
        };
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let told = self.device.create_buffer(&describe(SHAPE_WORDS * 4, usage));
        self.queue.write_buffer(&told, 0, &shape.bytes());
        let bound = [(0, Some(&told)), (1, of[0]), (2, of[1]), (3, Some(out))];
        let entries: Vec<BindGroupEntry<'_>> = bound
            .into_iter()
            .filter_map(|(binding, buffer)| Some((binding, buffer?)))
            .filter(|(binding, _)| kernel != Kernel::Expand || [0, 3].contains(binding))
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
