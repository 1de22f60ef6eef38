module {
  func.func @forward(%arg0: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.embeddings.position_embeddings.weight"}, %arg1: tensor<2x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.embeddings.token_type_embeddings.weight"}, %arg2: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.embeddings.LayerNorm.weight"}, %arg3: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.embeddings.LayerNorm.bias"}, %arg4: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.self.query.weight"}, %arg5: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.self.query.bias"}, %arg6: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.self.key.weight"}, %arg7: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.self.key.bias"}, %arg8: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.self.value.weight"}, %arg9: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.self.value.bias"}, %arg10: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.output.dense.weight"}, %arg11: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.output.dense.bias"}, %arg12: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.output.LayerNorm.weight"}, %arg13: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.attention.output.LayerNorm.bias"}, %arg14: tensor<256x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.intermediate.dense.weight"}, %arg15: tensor<256xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.intermediate.dense.bias"}, %arg16: tensor<64x256xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.output.dense.weight"}, %arg17: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.output.dense.bias"}, %arg18: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.output.LayerNorm.weight"}, %arg19: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.0.output.LayerNorm.bias"}, %arg20: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.self.query.weight"}, %arg21: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.self.query.bias"}, %arg22: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.self.key.weight"}, %arg23: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.self.key.bias"}, %arg24: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.self.value.weight"}, %arg25: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.self.value.bias"}, %arg26: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.output.dense.weight"}, %arg27: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.output.dense.bias"}, %arg28: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.output.LayerNorm.weight"}, %arg29: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.attention.output.LayerNorm.bias"}, %arg30: tensor<256x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.intermediate.dense.weight"}, %arg31: tensor<256xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.intermediate.dense.bias"}, %arg32: tensor<64x256xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.output.dense.weight"}, %arg33: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.output.dense.bias"}, %arg34: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.output.LayerNorm.weight"}, %arg35: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.encoder.layer.1.output.LayerNorm.bias"}, %arg36: tensor<64x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "cls.predictions.transform.dense.weight"}, %arg37: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "cls.predictions.transform.dense.bias"}, %arg38: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "cls.predictions.transform.LayerNorm.weight"}, %arg39: tensor<64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "cls.predictions.transform.LayerNorm.bias"}, %arg40: tensor<512x64xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "bert.embeddings.word_embeddings.weight"}, %arg41: tensor<512xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "cls.predictions.bias"}, %arg42: tensor<2x16xi64> {mpt.kind = #mpt.kind<input>, mpt.name = "input_ids", mpt.range = array<i64: 0, 512>}, %arg43: tensor<2x16xi64> {mpt.kind = #mpt.kind<input>, mpt.name = "attention_mask"}, %arg44: tensor<2x16xi64> {mpt.kind = #mpt.kind<input>, mpt.name = "token_type_ids", mpt.range = array<i64: 0, 2>}, %arg45: tensor<2x16xi64> {mpt.ignore_index = -100 : i64, mpt.kind = #mpt.kind<label>, mpt.name = "labels", mpt.range = array<i64: 0, 512>}, %arg46: tensor<i64> {mpt.kind = #mpt.kind<rng>, mpt.name = "rng.seed"}, %arg47: tensor<i64> {mpt.kind = #mpt.kind<rng>, mpt.name = "rng.step"}) -> (tensor<f32> {mpt.name = "loss"}) {
    %0 = mpt.constant dense<1244793033> : tensor<i64>
    %1 = mpt.constant dense<1295029513> : tensor<i64>
    %2 = mpt.constant dense<1083608266> : tensor<i64>
    %3 = mpt.constant dense<2606669632> : tensor<i64>
    %4 = mpt.constant dense<276915496> : tensor<i64>
    %5 = mpt.constant dense<1340486007> : tensor<i64>
    %6 = mpt.constant dense<0.176776692> : tensor<f32>
    %7 = mpt.constant dense<-3.40282347E+38> : tensor<f32>
    %8 = mpt.constant dense<0.000000e+00> : tensor<f32>
    %9 = mpt.constant dense<972078850> : tensor<i64>
    %10 = mpt.constant dense<0> : tensor<i64>
    %11 = mpt.constant dense<[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]]> : tensor<1x16xi64>
    %12 = mpt.gather %arg40, %arg42 {mpt.name = "embeddings.word_embeddings"} : (tensor<512x64xf32>, tensor<2x16xi64>) -> tensor<2x16x64xf32>
    %13 = mpt.gather %arg1, %arg44 {mpt.name = "embeddings.token_type_embeddings"} : (tensor<2x64xf32>, tensor<2x16xi64>) -> tensor<2x16x64xf32>
    %14 = mpt.add %12, %13 {mpt.name = "embeddings.add"} : (tensor<2x16x64xf32>, tensor<2x16x64xf32>) -> tensor<2x16x64xf32>
    %15 = mpt.gather %arg0, %11 {mpt.name = "embeddings.position_embeddings"} : (tensor<64x64xf32>, tensor<1x16xi64>) -> tensor<1x16x64xf32>
    %16 = mpt.add %14, %15 {mpt.name = "embeddings.add.1"} : (tensor<2x16x64xf32>, tensor<1x16x64xf32>) -> tensor<2x16x64xf32>
    %y, %mean, %rstd = mpt.layer_norm %16, %arg2, %arg3 {epsilon = 9.99999996E-13 : f32, mpt.name = "embeddings.LayerNorm"} : (tensor<2x16x64xf32>, tensor<64xf32>, tensor<64xf32>) -> (tensor<2x16x64xf32>, tensor<2x16x1xf32>, tensor<2x16x1xf32>)
    %17 = mpt.dropout %y, %arg46, %arg47, %9 {keep_probability = 0.899999976 : f32, mpt.name = "embeddings.dropout"} : (tensor<2x16x64xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x16x64xf32>
    %18 = mpt.compare %arg43, %10 {mpt.name = "compare", predicate = #mpt.predicate<ne>} : (tensor<2x16xi64>, tensor<i64>) -> tensor<2x16xi1>
    %19 = mpt.reshape %18 {mpt.name = "reshape"} : (tensor<2x16xi1>) -> tensor<2x1x1x16xi1>
    %20 = mpt.select %19, %8, %7 {mpt.name = "select"} : (tensor<2x1x1x16xi1>, tensor<f32>, tensor<f32>) -> tensor<2x1x1x16xf32>
    %21 = mpt.matmul %17, %arg4 {mpt.name = "encoder.layer.0.attention.self.query", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %22 = mpt.add %21, %arg5 {mpt.name = "encoder.layer.0.attention.self.query.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %23 = mpt.reshape %22 {mpt.name = "encoder.layer.0.attention.self.reshape"} : (tensor<2x16x64xf32>) -> tensor<2x16x2x32xf32>
    %24 = mpt.transpose %23 {mpt.name = "encoder.layer.0.attention.self.transpose", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xf32>) -> tensor<2x2x16x32xf32>
    %25 = mpt.matmul %17, %arg6 {mpt.name = "encoder.layer.0.attention.self.key", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %26 = mpt.add %25, %arg7 {mpt.name = "encoder.layer.0.attention.self.key.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %27 = mpt.reshape %26 {mpt.name = "encoder.layer.0.attention.self.reshape.1"} : (tensor<2x16x64xf32>) -> tensor<2x16x2x32xf32>
    %28 = mpt.matmul %17, %arg8 {mpt.name = "encoder.layer.0.attention.self.value", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %29 = mpt.add %28, %arg9 {mpt.name = "encoder.layer.0.attention.self.value.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %30 = mpt.reshape %29 {mpt.name = "encoder.layer.0.attention.self.reshape.2"} : (tensor<2x16x64xf32>) -> tensor<2x16x2x32xf32>
    %31 = mpt.transpose %30 {mpt.name = "encoder.layer.0.attention.self.transpose.1", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xf32>) -> tensor<2x2x16x32xf32>
    %32 = mpt.transpose %27 {mpt.name = "encoder.layer.0.attention.self.transpose.2", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xf32>) -> tensor<2x2x16x32xf32>
    %33 = mpt.matmul %24, %32 {mpt.name = "encoder.layer.0.attention.self.scores", transpose_rhs} : (tensor<2x2x16x32xf32>, tensor<2x2x16x32xf32>) -> tensor<2x2x16x16xf32>
    %34 = mpt.mul %33, %6 {mpt.name = "encoder.layer.0.attention.self.mul"} : (tensor<2x2x16x16xf32>, tensor<f32>) -> tensor<2x2x16x16xf32>
    %35 = mpt.add %34, %20 {mpt.name = "encoder.layer.0.attention.self.add"} : (tensor<2x2x16x16xf32>, tensor<2x1x1x16xf32>) -> tensor<2x2x16x16xf32>
    %36 = mpt.softmax %35 {mpt.name = "encoder.layer.0.attention.self.softmax"} : (tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xf32>
    %37 = mpt.dropout %36, %arg46, %arg47, %5 {keep_probability = 0.899999976 : f32, mpt.name = "encoder.layer.0.attention.self.dropout"} : (tensor<2x2x16x16xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x2x16x16xf32>
    %38 = mpt.matmul %37, %31 {mpt.name = "encoder.layer.0.attention.self.context"} : (tensor<2x2x16x16xf32>, tensor<2x2x16x32xf32>) -> tensor<2x2x16x32xf32>
    %39 = mpt.transpose %38 {mpt.name = "encoder.layer.0.attention.self.transpose.3", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x2x16x32xf32>) -> tensor<2x16x2x32xf32>
    %40 = mpt.reshape %39 {mpt.name = "encoder.layer.0.attention.self.reshape.3"} : (tensor<2x16x2x32xf32>) -> tensor<2x16x64xf32>
    %41 = mpt.matmul %40, %arg10 {mpt.name = "encoder.layer.0.attention.output.dense", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %42 = mpt.add %41, %arg11 {mpt.name = "encoder.layer.0.attention.output.dense.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %43 = mpt.dropout %42, %arg46, %arg47, %4 {keep_probability = 0.899999976 : f32, mpt.name = "encoder.layer.0.attention.output.dropout"} : (tensor<2x16x64xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x16x64xf32>
    %44 = mpt.add %43, %17 {mpt.name = "encoder.layer.0.attention.output.add"} : (tensor<2x16x64xf32>, tensor<2x16x64xf32>) -> tensor<2x16x64xf32>
    %y_0, %mean_1, %rstd_2 = mpt.layer_norm %44, %arg12, %arg13 {epsilon = 9.99999996E-13 : f32, mpt.name = "encoder.layer.0.attention.output.LayerNorm"} : (tensor<2x16x64xf32>, tensor<64xf32>, tensor<64xf32>) -> (tensor<2x16x64xf32>, tensor<2x16x1xf32>, tensor<2x16x1xf32>)
    %45 = mpt.matmul %y_0, %arg14 {mpt.name = "encoder.layer.0.intermediate.dense", transpose_rhs} : (tensor<2x16x64xf32>, tensor<256x64xf32>) -> tensor<2x16x256xf32>
    %46 = mpt.add %45, %arg15 {mpt.name = "encoder.layer.0.intermediate.dense.add"} : (tensor<2x16x256xf32>, tensor<256xf32>) -> tensor<2x16x256xf32>
    %47 = mpt.gelu %46 {mpt.name = "encoder.layer.0.intermediate.intermediate_act_fn.gelu"} : (tensor<2x16x256xf32>) -> tensor<2x16x256xf32>
    %48 = mpt.matmul %47, %arg16 {mpt.name = "encoder.layer.0.output.dense", transpose_rhs} : (tensor<2x16x256xf32>, tensor<64x256xf32>) -> tensor<2x16x64xf32>
    %49 = mpt.add %48, %arg17 {mpt.name = "encoder.layer.0.output.dense.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %50 = mpt.dropout %49, %arg46, %arg47, %3 {keep_probability = 0.899999976 : f32, mpt.name = "encoder.layer.0.output.dropout"} : (tensor<2x16x64xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x16x64xf32>
    %51 = mpt.add %50, %y_0 {mpt.name = "encoder.layer.0.output.add"} : (tensor<2x16x64xf32>, tensor<2x16x64xf32>) -> tensor<2x16x64xf32>
    %y_3, %mean_4, %rstd_5 = mpt.layer_norm %51, %arg18, %arg19 {epsilon = 9.99999996E-13 : f32, mpt.name = "encoder.layer.0.output.LayerNorm"} : (tensor<2x16x64xf32>, tensor<64xf32>, tensor<64xf32>) -> (tensor<2x16x64xf32>, tensor<2x16x1xf32>, tensor<2x16x1xf32>)
    %52 = mpt.matmul %y_3, %arg20 {mpt.name = "encoder.layer.1.attention.self.query", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %53 = mpt.add %52, %arg21 {mpt.name = "encoder.layer.1.attention.self.query.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %54 = mpt.reshape %53 {mpt.name = "encoder.layer.1.attention.self.reshape"} : (tensor<2x16x64xf32>) -> tensor<2x16x2x32xf32>
    %55 = mpt.transpose %54 {mpt.name = "encoder.layer.1.attention.self.transpose", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xf32>) -> tensor<2x2x16x32xf32>
    %56 = mpt.matmul %y_3, %arg22 {mpt.name = "encoder.layer.1.attention.self.key", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %57 = mpt.add %56, %arg23 {mpt.name = "encoder.layer.1.attention.self.key.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %58 = mpt.reshape %57 {mpt.name = "encoder.layer.1.attention.self.reshape.1"} : (tensor<2x16x64xf32>) -> tensor<2x16x2x32xf32>
    %59 = mpt.matmul %y_3, %arg24 {mpt.name = "encoder.layer.1.attention.self.value", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %60 = mpt.add %59, %arg25 {mpt.name = "encoder.layer.1.attention.self.value.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %61 = mpt.reshape %60 {mpt.name = "encoder.layer.1.attention.self.reshape.2"} : (tensor<2x16x64xf32>) -> tensor<2x16x2x32xf32>
    %62 = mpt.transpose %61 {mpt.name = "encoder.layer.1.attention.self.transpose.1", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xf32>) -> tensor<2x2x16x32xf32>
    %63 = mpt.transpose %58 {mpt.name = "encoder.layer.1.attention.self.transpose.2", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xf32>) -> tensor<2x2x16x32xf32>
    %64 = mpt.matmul %55, %63 {mpt.name = "encoder.layer.1.attention.self.scores", transpose_rhs} : (tensor<2x2x16x32xf32>, tensor<2x2x16x32xf32>) -> tensor<2x2x16x16xf32>
    %65 = mpt.mul %64, %6 {mpt.name = "encoder.layer.1.attention.self.mul"} : (tensor<2x2x16x16xf32>, tensor<f32>) -> tensor<2x2x16x16xf32>
    %66 = mpt.add %65, %20 {mpt.name = "encoder.layer.1.attention.self.add"} : (tensor<2x2x16x16xf32>, tensor<2x1x1x16xf32>) -> tensor<2x2x16x16xf32>
    %67 = mpt.softmax %66 {mpt.name = "encoder.layer.1.attention.self.softmax"} : (tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xf32>
    %68 = mpt.dropout %67, %arg46, %arg47, %2 {keep_probability = 0.899999976 : f32, mpt.name = "encoder.layer.1.attention.self.dropout"} : (tensor<2x2x16x16xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x2x16x16xf32>
    %69 = mpt.matmul %68, %62 {mpt.name = "encoder.layer.1.attention.self.context"} : (tensor<2x2x16x16xf32>, tensor<2x2x16x32xf32>) -> tensor<2x2x16x32xf32>
    %70 = mpt.transpose %69 {mpt.name = "encoder.layer.1.attention.self.transpose.3", permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x2x16x32xf32>) -> tensor<2x16x2x32xf32>
    %71 = mpt.reshape %70 {mpt.name = "encoder.layer.1.attention.self.reshape.3"} : (tensor<2x16x2x32xf32>) -> tensor<2x16x64xf32>
    %72 = mpt.matmul %71, %arg26 {mpt.name = "encoder.layer.1.attention.output.dense", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %73 = mpt.add %72, %arg27 {mpt.name = "encoder.layer.1.attention.output.dense.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %74 = mpt.dropout %73, %arg46, %arg47, %1 {keep_probability = 0.899999976 : f32, mpt.name = "encoder.layer.1.attention.output.dropout"} : (tensor<2x16x64xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x16x64xf32>
    %75 = mpt.add %74, %y_3 {mpt.name = "encoder.layer.1.attention.output.add"} : (tensor<2x16x64xf32>, tensor<2x16x64xf32>) -> tensor<2x16x64xf32>
    %y_6, %mean_7, %rstd_8 = mpt.layer_norm %75, %arg28, %arg29 {epsilon = 9.99999996E-13 : f32, mpt.name = "encoder.layer.1.attention.output.LayerNorm"} : (tensor<2x16x64xf32>, tensor<64xf32>, tensor<64xf32>) -> (tensor<2x16x64xf32>, tensor<2x16x1xf32>, tensor<2x16x1xf32>)
    %76 = mpt.matmul %y_6, %arg30 {mpt.name = "encoder.layer.1.intermediate.dense", transpose_rhs} : (tensor<2x16x64xf32>, tensor<256x64xf32>) -> tensor<2x16x256xf32>
    %77 = mpt.add %76, %arg31 {mpt.name = "encoder.layer.1.intermediate.dense.add"} : (tensor<2x16x256xf32>, tensor<256xf32>) -> tensor<2x16x256xf32>
    %78 = mpt.gelu %77 {mpt.name = "encoder.layer.1.intermediate.intermediate_act_fn.gelu"} : (tensor<2x16x256xf32>) -> tensor<2x16x256xf32>
    %79 = mpt.matmul %78, %arg32 {mpt.name = "encoder.layer.1.output.dense", transpose_rhs} : (tensor<2x16x256xf32>, tensor<64x256xf32>) -> tensor<2x16x64xf32>
    %80 = mpt.add %79, %arg33 {mpt.name = "encoder.layer.1.output.dense.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %81 = mpt.dropout %80, %arg46, %arg47, %0 {keep_probability = 0.899999976 : f32, mpt.name = "encoder.layer.1.output.dropout"} : (tensor<2x16x64xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x16x64xf32>
    %82 = mpt.add %81, %y_6 {mpt.name = "encoder.layer.1.output.add"} : (tensor<2x16x64xf32>, tensor<2x16x64xf32>) -> tensor<2x16x64xf32>
    %y_9, %mean_10, %rstd_11 = mpt.layer_norm %82, %arg34, %arg35 {epsilon = 9.99999996E-13 : f32, mpt.name = "encoder.layer.1.output.LayerNorm"} : (tensor<2x16x64xf32>, tensor<64xf32>, tensor<64xf32>) -> (tensor<2x16x64xf32>, tensor<2x16x1xf32>, tensor<2x16x1xf32>)
    %83 = mpt.matmul %y_9, %arg36 {mpt.name = "cls.predictions.transform.dense", transpose_rhs} : (tensor<2x16x64xf32>, tensor<64x64xf32>) -> tensor<2x16x64xf32>
    %84 = mpt.add %83, %arg37 {mpt.name = "cls.predictions.transform.dense.add"} : (tensor<2x16x64xf32>, tensor<64xf32>) -> tensor<2x16x64xf32>
    %85 = mpt.gelu %84 {mpt.name = "cls.predictions.transform.transform_act_fn.gelu"} : (tensor<2x16x64xf32>) -> tensor<2x16x64xf32>
    %y_12, %mean_13, %rstd_14 = mpt.layer_norm %85, %arg38, %arg39 {epsilon = 9.99999996E-13 : f32, mpt.name = "cls.predictions.transform.LayerNorm"} : (tensor<2x16x64xf32>, tensor<64xf32>, tensor<64xf32>) -> (tensor<2x16x64xf32>, tensor<2x16x1xf32>, tensor<2x16x1xf32>)
    %86 = mpt.matmul %y_12, %arg40 {mpt.name = "cls.predictions.decoder", transpose_rhs} : (tensor<2x16x64xf32>, tensor<512x64xf32>) -> tensor<2x16x512xf32>
    %87 = mpt.add %86, %arg41 {mpt.name = "cls.predictions.decoder.add"} : (tensor<2x16x512xf32>, tensor<512xf32>) -> tensor<2x16x512xf32>
    %88 = mpt.reshape %87 {mpt.name = "reshape.1"} : (tensor<2x16x512xf32>) -> tensor<32x512xf32>
    %89 = mpt.reshape %arg45 {mpt.name = "reshape.2"} : (tensor<2x16xi64>) -> tensor<32xi64>
    %loss, %log_sum_exp, %count = mpt.cross_entropy %88, %89 {ignore_index = -100 : i64, mpt.name = "cross_entropy"} : (tensor<32x512xf32>, tensor<32xi64>) -> (tensor<f32>, tensor<32x1xf32>, tensor<f32>)
    return %loss : tensor<f32>
  }
}

