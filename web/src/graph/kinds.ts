import type { GraphNode } from '../api/types';

export type Kind =
  | 'image' | 'block' | 'convolution' | 'linear' | 'attention' | 'normalization' | 'activation' | 'pooling' | 'arithmetic' | 'shape' | 'other';

/** Told apart also without color vision: after Okabe and Ito, with gray for what computes nothing. */
export const KINDS: Record<Kind, { label: string; color: string }> = {
  image: { label: 'Image', color: '#f0e442' },
  block: { label: 'Block', color: '#7d8597' },
  convolution: { label: 'Convolution', color: '#0072b2' },
  linear: { label: 'Linear', color: '#56b4e9' },
  attention: { label: 'Attention', color: '#cc79a7' },
  normalization: { label: 'Normalization', color: '#b9b2a3' },
  activation: { label: 'Nonlinearity', color: '#e69f00' },
  pooling: { label: 'Pooling', color: '#009e73' },
  arithmetic: { label: 'Sum, product, join', color: '#d55e00' },
  shape: { label: 'Reshaping', color: '#d3d6db' },
  other: { label: 'Other', color: '#9a8fbf' },
};

const BY_NAME: [RegExp, Kind][] = [
  [/attention|^attn|scaled_dot/i, 'attention'],
  [/conv/i, 'convolution'],
  [/norm|^lrn/i, 'normalization'],
  [/relu|gelu|silu|swish|sigmoid|tanh|softmax|softplus|mish|elu|hard/i, 'activation'],
  [/pool|^mean$/i, 'pooling'],
  [/linear|^fc$|^mm$|bmm|matmul|dense$|einsum/i, 'linear'],
  [/^(add|sub|mul|div|cat|concat|stack|sum|rsub|neg|pow|sqrt|rsqrt|exp)_?\b/i, 'arithmetic'],
  [/view|reshape|permute|transpose|flatten|select|slice|expand|unsqueeze|squeeze|chunk|split|pad|roll|contiguous|clone|identity|dropout|drop|^t$|unfold|getitem|index/i, 'shape'],
];

export function kindOf(node: GraphNode): Kind {
  if (node.kind === 'input') return 'image';
  const found = BY_NAME.find(([pattern]) => pattern.test(node.module));
  if (node.container) return found?.[1] === 'attention' || found?.[1] === 'normalization' ? found[1] : 'block';
  return found?.[1] ?? 'other';
}
