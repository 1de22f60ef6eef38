//===- MPTOpBase.td - what every op family builds on -------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Base classes of the op families: common traits, result type inference that
// ignores encodings, and the one assembly format.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_MPTOPBASE
#define MPT_DIALECT_MPT_IR_MPTOPBASE

include "mpt/Dialect/MPT/IR/MPTBase.td"
include "mpt/Dialect/MPT/IR/MPTInterfaces.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

/// A statically shaped tensor with at least one element.
class MPT_TensorOf<list<Type> elementTypes, string text>
    : ConfinedType<StaticShapeTensorOf<elementTypes>,
        [CPred<"!::llvm::is_contained("
               "::llvm::cast<::mlir::RankedTensorType>($_self).getShape(), 0)">],
        "statically shaped, non-empty " # text>;
/// The same without an encoding: held in no format.
class MPT_PlainTensorOf<list<Type> elementTypes, string text>
    : ConfinedType<MPT_TensorOf<elementTypes, text>,
        [CPred<"!::llvm::cast<::mlir::RankedTensorType>($_self).getEncoding()">],
        "statically shaped, non-empty " # text # " that is held in no format">;

/// Real values; the encoding, if any, is a format.
def MPT_F32Tensor : MPT_TensorOf<[F32], "f32 tensor">;
/// What an op computes: only a cast's result, or a view of one, is in a format.
def MPT_F32Result : MPT_PlainTensorOf<[F32], "f32 tensor">;
def MPT_IntTensor : MPT_TensorOf<[I64, I32], "i64 or i32 tensor">;
def MPT_BoolTensor : MPT_TensorOf<[I1], "i1 tensor">;
def MPT_AnyTensor : MPT_TensorOf<[F32, BF16, F8E4M3FN, F8E5M2, I64, I32, I8, I1],
    "f32, bf16, f8E4M3FN, f8E5M2, i64, i32, i8 or i1 tensor">;
/// Stored codes of a low-precision tensor, after materialization.
def MPT_StorageTensor : MPT_PlainTensorOf<[F32, BF16, F8E4M3FN, F8E5M2, I8],
    "f32, bf16, f8E4M3FN, f8E5M2 or i8 tensor">;
/// A scalar as a rank-0 tensor.
def MPT_F32Scalar : 0DTensorOf<[F32]>;
def MPT_I64Scalar : 0DTensorOf<[I64]>;

class MPT_Op<string mnemonic, list<Trait> traits = []>
    : Op<MPT_Dialect, mnemonic, !listconcat([Pure], traits)> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

/// An op whose result types follow from operands and attributes. Operands'
/// encodings are ignored by inference: what a value is held in does not change
/// what is computed from it.
class MPT_InferredOp<string mnemonic, list<Trait> traits = []>
    : MPT_Op<mnemonic, !listconcat([InferTypeOpAdaptorWithIsCompatible], traits)> {
  code compatibleDefinition = [{
    bool $cppClass::isCompatibleReturnTypes(::mlir::TypeRange l,
                                            ::mlir::TypeRange r) {
      return ::mpt::compatibleIgnoringEncoding(l, r);
    }
  }];
  let extraClassDefinition = compatibleDefinition;
}

#endif // MPT_DIALECT_MPT_IR_MPTOPBASE
