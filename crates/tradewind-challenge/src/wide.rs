//! One function compiled for several widths of vectors, chosen when it runs.

/// Compiles a function for plain, 256-bit and 512-bit registers, and calls the widest that the processor has. All three give
/// the same result: they are the same code.
macro_rules! wide {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) {
            #[inline(always)]
            fn plain($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn widest($($argument: $type),*) {
                    plain($($argument),*);
                }

                #[target_feature(enable = "avx2")]
                fn wider($($argument: $type),*) {
                    plain($($argument),*);
                }

                if $crate::wide::has_widest() {
                    #[expect(unsafe_code, reason = "the processor has the features, as was just asked")]
                    return unsafe { widest($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    #[expect(unsafe_code, reason = "the processor has the feature, as was just asked")]
                    return unsafe { wider($($argument),*) };
                }
            }
            plain($($argument),*);
        }
    };
}

pub(crate) use wide;

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_widest() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
}
