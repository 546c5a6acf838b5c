"""The part of Caffe's protobuf schema that networks, weights and mean files use, as message classes built at run time.

The field names and numbers are the file format; Caffe itself is not needed. In a text file a field that is not listed here is an error:
it could change what a layer computes. In a binary file unknown fields are passed over, as everywhere in protobuf.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["BlobProto", "LayerParameter", "NetParameter"]

_ENUMS: Final = {
    "Phase": "TRAIN TEST",
    "Engine": "DEFAULT CAFFE CUDNN",
    "Pool": "MAX AVE STOCHASTIC",
    "Round": "CEIL FLOOR",
    "Eltwise": "PROD SUM MAX",
    "Region": "ACROSS_CHANNELS WITHIN_CHANNEL",
    "Variance": "FAN_IN FAN_OUT AVERAGE",
    "Check": "STRICT PERMISSIVE",
    "V1Type": "NONE ACCURACY BNLL CONCAT CONVOLUTION DATA DROPOUT EUCLIDEAN_LOSS FLATTEN HDF5_DATA HDF5_OUTPUT IM2COL IMAGE_DATA "
    "INFOGAIN_LOSS INNER_PRODUCT LRN MULTINOMIAL_LOGISTIC_LOSS POOLING RELU SIGMOID SOFTMAX SOFTMAX_LOSS SPLIT TANH WINDOW_DATA ELTWISE "
    "POWER SIGMOID_CROSS_ENTROPY_LOSS HINGE_LOSS MEMORY_DATA ARGMAX THRESHOLD DUMMY_DATA SLICE MVN ABSVAL SILENCE CONTRASTIVE_LOSS EXP "
    "DECONVOLUTION",
}  # numbered from 0 on

# name:type=number, with * for a repeated field and /value for a default other than zero
_WINDOW: Final = "pad_h:uint32=9 pad_w:uint32=10"
_PARAMETERS: Final = {
    "batch_norm_param": "use_global_stats:bool=1 moving_average_fraction:float=2 eps:float=3/1e-05",
    "bias_param": "axis:int32=1/1 num_axes:int32=2/1 filler:Filler=3",
    "concat_param": "concat_dim:uint32=1 axis:int32=2/1",
    "convolution_param": "num_output:uint32=1 bias_term:bool=2/true pad*:uint32=3 kernel_size*:uint32=4 group:uint32=5/1 stride*:uint32=6 "
    f"weight_filler:Filler=7 bias_filler:Filler=8 {_WINDOW} kernel_h:uint32=11 kernel_w:uint32=12 stride_h:uint32=13 stride_w:uint32=14 "
    "engine:Engine=15 axis:int32=16/1 force_nd_im2col:bool=17 dilation*:uint32=18",
    "dropout_param": "dropout_ratio:float=1/0.5 scale_train:bool=2/true",
    "eltwise_param": "operation:Eltwise=1/SUM coeff*:float=2 stable_prod_grad:bool=3/true",
    "elu_param": "alpha:float=1/1",
    "exp_param": "base:float=1/-1 scale:float=2/1 shift:float=3",
    "flatten_param": "axis:int32=1/1 end_axis:int32=2/-1",
    "inner_product_param": "num_output:uint32=1 bias_term:bool=2/true weight_filler:Filler=3 bias_filler:Filler=4 axis:int32=5/1 "
    "transpose:bool=6",
    "input_param": "shape*:BlobShape=1",
    "log_param": "base:float=1/-1 scale:float=2/1 shift:float=3",
    "lrn_param": "local_size:uint32=1/5 alpha:float=2/1 beta:float=3/0.75 norm_region:Region=4 k:float=5/1 engine:Engine=6",
    "pooling_param": "pool:Pool=1 kernel_size:uint32=2 stride:uint32=3/1 pad:uint32=4 kernel_h:uint32=5 kernel_w:uint32=6 "
    f"stride_h:uint32=7 stride_w:uint32=8 {_WINDOW} engine:Engine=11 global_pooling:bool=12 round_mode:Round=13",
    "power_param": "power:float=1/1 scale:float=2/1 shift:float=3",
    "prelu_param": "filler:Filler=1 channel_shared:bool=2",
    "relu_param": "negative_slope:float=1 engine:Engine=2",
    "reshape_param": "shape:BlobShape=1 axis:int32=2 num_axes:int32=3/-1",
    "scale_param": "axis:int32=1/1 num_axes:int32=2/1 filler:Filler=3 bias_term:bool=4 bias_filler:Filler=5",
    "sigmoid_param": "engine:Engine=1",
    "slice_param": "slice_dim:uint32=1 slice_point*:uint32=2 axis:int32=3/1",
    "softmax_param": "engine:Engine=1 axis:int32=2/1",
    "tanh_param": "engine:Engine=1",
}
"""The message of each kind of layer; its name is that of the field, which is the same in both forms of layers."""
_V2_NUMBERS: Final = (
    "batch_norm_param=139 bias_param=141 concat_param=104 convolution_param=106 dropout_param=108 eltwise_param=110 elu_param=140 "
    "exp_param=111 flatten_param=135 inner_product_param=117 input_param=143 log_param=134 lrn_param=118 pooling_param=121 "
    "power_param=122 prelu_param=131 relu_param=123 reshape_param=133 scale_param=142 sigmoid_param=124 slice_param=126 "
    "softmax_param=125 tanh_param=127"
)
_V1_NUMBERS: Final = (
    "concat_param=9 convolution_param=10 dropout_param=12 eltwise_param=24 exp_param=41 inner_product_param=17 lrn_param=18 "
    "pooling_param=19 power_param=21 relu_param=30 sigmoid_param=38 slice_param=31 softmax_param=39 tanh_param=37"
)


def _typed(numbers: str) -> str:
    """Fields of which each has the message of its own name: "a=1" becomes "a:a=1"."""
    return " ".join("{0}:{0}={1}".format(*word.split("=")) for word in numbers.split())


_MESSAGES: Final = {
    "BlobShape": "dim*:int64=1",
    # data is declared as the bytes that packed numbers are, so that NumPy can take them as they are
    "BlobProto": "num:int32=1 channels:int32=2 height:int32=3 width:int32=4 data:bytes=5 shape:BlobShape=7 double_data:bytes=8",
    "Filler": "type:string=1 value:float=2 min:float=3 max:float=4 mean:float=5 std:float=6 sparse:int32=7 variance_norm:Variance=8",
    "State": "phase:Phase=1 level:int32=2 stage*:string=3",
    "Rule": "phase:Phase=1 min_level:int32=2 max_level:int32=3 stage*:string=4 not_stage*:string=5",
    "Share": "name:string=1 share_mode:Check=2 lr_mult:float=3 decay_mult:float=4",
    "LayerParameter": "name:string=1 type:string=2 bottom*:string=3 top*:string=4 loss_weight*:float=5 param*:Share=6 blobs*:BlobProto=7 "
    f"include*:Rule=8 exclude*:Rule=9 phase:Phase=10 propagate_down*:bool=11 {_typed(_V2_NUMBERS)}",
    "V1LayerParameter": "bottom*:string=2 top*:string=3 name:string=4 type:V1Type=5 blobs*:BlobProto=6 blobs_lr*:float=7 "
    f"weight_decay*:float=8 include*:Rule=32 exclude*:Rule=33 loss_weight*:float=35 param*:string=1001 "
    f"blob_share_mode*:Check=1002 {_typed(_V1_NUMBERS)}",
    "NetParameter": "name:string=1 layers*:V1LayerParameter=2 input*:string=3 input_dim*:int32=4 force_backward:bool=5 state:State=6 "
    "debug_info:bool=7 input_shape*:BlobShape=8 layer*:LayerParameter=100",
} | _PARAMETERS


def _file() -> descriptor_pb2.FileDescriptorProto:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="onnx_lrp_caffe.proto", package="caffe", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for word in fields.split():
            rest, _, default = word.partition("/")
            key, number = rest.split("=")
            label, kind = key.split(":")
            field = message.field.add(name=label.rstrip("*"), number=int(number))
            field.label = kinds.LABEL_REPEATED if label.endswith("*") else kinds.LABEL_OPTIONAL
            if kind in _ENUMS:  # declared inside the message, as names of values must not meet in a package
                field.type, field.type_name = kinds.TYPE_ENUM, f".caffe.{name}.{kind}"
                enum = message.enum_type.add(name=kind)
                for index, value in enumerate(_ENUMS[kind].split()):
                    enum.value.add(name=value, number=index)
            elif kind in _MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
            if default:
                field.default_value = default
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"caffe.{name}"))


BlobProto: Any = _message("BlobProto")
LayerParameter: Any = _message("LayerParameter")
NetParameter: Any = _message("NetParameter")
