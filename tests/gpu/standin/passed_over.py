"""What `--standin` passes over in the other folders, by the beginning of a test's name, each with the reason."""

LOOKS = (
    "on a GPU nobody looks at numbers, for which the host would wait: an index out of range wraps, and what is no "
    "probability, variance or matrix of full rank gives what the arithmetic gives"
)
GRAPHS = "the stand-in captures no graphs (tests/kernels/cuda/test_cuda_capture.py has a driver that does)"
COPIES = "on the device a tensor is a copy, not over the memory of the array that it is made of"
BEFORE = "its layers are made when the file is read, before its tensors are put on the device"
NAMES = "knows the engine's functions by identity, and is given others here"
OWN = "brings arrays of its own that stand for a device's"
HANDS = "writes a gradient rule, or looks for an array's address, with NumPy's arrays in hand"
FUNCTION = "a function of the test's own stands for the model: it answers on the device, and its caller is on the CPU"
BLOCK = 'opens autocast("cpu"), which leaves tensors of the device alone'
HOST = "says cpu, where its tensors are on the device"
STATIC = "its mask is made by a static method, whose device the test leaves at the CPU"

TESTS = {
    "amp/test_autocast.py::test_a_weight_is_cast_once_a_block": BLOCK,
    "amp/test_autocast.py::test_blocks_nest_and_can_be_switched_off": BLOCK,
    "amp/test_autocast.py::test_types_are_those_of_pytorch": BLOCK,
    "capture/": GRAPHS,
    "nn/test_attention.py::test_a_causal_encoder_does_not_look_ahead[mask": STATIC,
    "nn/test_layers.py::test_activation[PReLU]": BEFORE,
    "nn/test_layers.py::test_norms_centre_and_scale": BEFORE,
    "nn/test_parametrize.py::test_weight_norm_keeps_the_weight": NAMES,
    "ops/test_arithmetic.py::test_refused[ArgumentError-<lambda>2]": LOOKS,
    "ops/test_arithmetic.py::test_refused[ArgumentError-<lambda>3]": LOOKS,
    "ops/test_casting.py::test_nothing_to_do_gives_x_itself": HOST,
    "ops/test_creation.py::test_refused[ArgumentError-<lambda>1": LOOKS,
    "ops/test_embedding.py::test_bad_input[<lambda>-DimError": LOOKS,
    "ops/test_entropies.py::test_bad_input[<lambda>-DimError": LOOKS,
    "ops/test_entropies.py::test_bad_input[<lambda>-ArgumentError-logits]": LOOKS,
    "ops/test_indexing.py::test_errors[<lambda>-DimError": LOOKS,
    "ops/test_indexing.py::test_lists_of_tensors_index": COPIES,
    "ops/test_inplace.py::test_memory_that_cannot_be_written": COPIES,
    "ops/test_losses.py::test_bad_input[<lambda>-ArgumentError-variances]": LOOKS,
    "ops/test_margins.py::test_bad_input[<lambda>-DimError": LOOKS,
    "ops/test_pooling.py::test_bad_input": LOOKS,
    "ops/test_sorting.py::test_errors[<lambda>-DimError-from 0 to 2]": LOOKS,
    "optim/test_device_numbers.py": OWN,
    "optim/test_ema.py::test_state": COPIES,
    "optim/test_flat.py::test_gradients_are_written_where_the_optimiser_wants_them": COPIES,
    "optim/test_flat.py::test_a_run_with_schedule_and_average_resumes_bit_for_bit": COPIES,
    "optim/test_flat.py::test_two_parameters_over_one_memory_are_refused": COPIES,
    "sampling/diffusion/test_samplers.py::test_a_straight_flow_needs_one_step": FUNCTION,
    "sampling/diffusion/test_samplers.py::test_samples_have_the_mean_and_the_spread_of_the_data": FUNCTION,
    "sampling/test_decoding.py::test_a_prompt_of_any_length_is_read_to_its_end": FUNCTION,
    "sampling/test_decoding.py::test_frequencies": FUNCTION,
    "sampling/test_decoding.py::test_greedy_is_argmax": FUNCTION,
    "sampling/test_decoding.py::test_one_beam_is_greedy_and_more_find_likelier_texts": FUNCTION,
    "sampling/test_decoding.py::test_seeds_and_streams": FUNCTION,
    "sampling/test_decoding.py::test_the_end_and_what_stands_after_it": FUNCTION,
    "sampling/test_static_cache.py::test_a_model_without_a_static_cache": FUNCTION,
    "sampling/test_static_cache.py::test_nothing_moves_and_the_step_reads_no_number_of_the_host": HANDS,
    "test_autograd.py::test_a_leaf_is_given_the_very_array_that_nobody_else_holds": HANDS,
    "test_autograd.py::test_and_a_copy_of_what_others_hold": HANDS,
    "test_autograd.py::test_gradgradcheck_finds_a_wrong_second_derivative": HANDS,
}


def reason(name):
    """Why the test of this name, from its folder in tests/ on, is passed over; None where it is not."""
    return next((why for begin, why in TESTS.items() if name.startswith(begin)), None)
