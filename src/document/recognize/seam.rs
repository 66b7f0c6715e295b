//! Estimates whether the seam between two lines is inside a sentence or between two paragraphs.
//!
//! `column` asks this where punctuation gives no answer. The position of a character is strong evidence: half of the
//! characters inside sentences almost never open a paragraph (的, 业, 率, 部), and two thirds of all paragraphs open with
//! characters that are rare inside sentences (据, 近, digits). The lists contain the frequent characters with clear odds,
//! counted in some 3,400 paragraphs and 1,700 headlines of news.

use super::chars::{is_digit, is_han};

/// Characters that open 1 % of the paragraphs but make up 48 % of the Chinese characters inside sentences.
const NEVER_FIRST: &str = "的和发地业会动部天了队场等合出于体进方年力交区家是斯将机长能时期展到元后军表示多过总运收资个道务布增用产员克约品化货要\
设定入实利量得内重事幅计每者点际至平度续称理尔局保施持超提制列安达间信击及门指基拉亚空线色组州管跌战航朗企盘举价车源式流们涨节影之显气物育\
罗司消界可域费规性议好技口级造构推向准势系息起视季求选降供别城代解更融足型央获集改所态都胜贸种江吨各洲立术类少播团支未助响突额协取旅果织模\
确告社件着质单斤客卫需税站轮破维低环权划票晚院均转策险牌纳效积研营护算查使勒问款户众较优传采夫频常盟份案处医贷启引并认班控购居责售障景复判\
试稳括儿么吗呢吧而但且被把给让向往";

/// Characters that open 69 % of the paragraphs but make up 6 % of the Chinese characters inside sentences.
const OFTEN_FIRST: &str = "记截另虽昨今根据尽由近此按莫当除其这哈具第阿而谈在教张本现我意从女受首目如同随与作为有对自经全走他她它两几一许当日截正每";

/// Characters that end 1 % of the headlines but precede 36 % of the positions inside sentences.
const NEVER_LAST: &str = "的国中在一日和大全年上对以新合美了公今将进有等比分方体是于多不前同能总交下经据海生最我与要当关内实第每提这后外两过得\
指化共已伊西北特易自也基其信文名商月克他及从投企近推受色此之世超正并媒们相股步源物决界技就记参各向更预较央深学该原视称把被";

/// Characters that end 65 % of the headlines but precede 9 % of the positions inside sentences.
const OFTEN_LAST: &str = "幕阻元散伤捕毁访布震录付见播攻债跌施善降措裁划滑牌行星车立办火营线态变标限袭涨展响灾升功效围击高落胜飞设次通级涯\
程费间足定启动建成通车贯开始结束举行开放增长发布公布签约闭启程";

/// The length in bytes of a word in [`WORDS`]; a space follows each word.
const WORD_BYTES: usize = 6;

/// Frequent two-character words of news. If the seam is inside one of them, the lines belong together.
#[rustfmt::skip]
const WORDS: &str = "\
    我们 他们 她们 你们 它们 人们 国家 中国 全国 我国 各国 美国 \
    法国 英国 德国 俄罗 日本 韩国 北京 上海 天津 重庆 广东 广州 \
    深圳 江苏 浙江 福建 山东 山西 河北 河南 湖北 湖南 江西 安徽 \
    四川 成都 云南 贵州 陕西 西安 甘肃 青海 宁夏 新疆 西藏 广西 \
    海南 辽宁 吉林 黑龙 香港 澳门 台湾 城市 农村 乡村 社区 街道 \
    地区 地方 各地 当地 本地 基地 土地 市场 经济 社会 政府 企业 \
    公司 集团 工业 农业 产业 行业 就业 创业 商业 专业 毕业 作业 \
    职业 事业 制造 创造 改造 建造 建设 建立 建成 建筑 构建 发展 \
    发现 发布 发生 发挥 发表 发出 发送 发电 开发 开展 开放 开始 \
    开启 开通 开幕 开工 公开 展开 召开 展示 展览 进展 拓展 扩展 \
    推动 推进 推广 推出 推荐 活动 运动 行动 劳动 移动 启动 互动 \
    带动 流动 自动 动力 动态 变动 实施 实现 实际 实践 实验 实行 \
    落实 事实 真实 现实 确实 技术 科技 科学 科研 研究 研发 研制 \
    创新 新型 新闻 更新 最新 新兴 质量 数量 力量 重量 产量 流量 \
    容量 能量 含量 大量 增加 增长 增强 增速 新增 提高 提升 提供 \
    提出 提前 提醒 提示 前提 高校 高度 高速 高水 高质 高效 学校 \
    学生 学习 学院 大学 中学 小学 同学 教学 教育 教师 教授 文化 \
    文明 文物 文件 文学 语文 人民 人员 人才 人口 人数 人类 人工 \
    人生 工人 工作 工程 工厂 工具 工资 施工 加工 员工 职工 农民 \
    居民 市民 村民 公民 民族 民生 民众 群众 干部 党员 代表 委员 \
    主席 总统 总理 部长 主任 书记 领导 负责 责任 任务 服务 业务 \
    公务 事务 义务 财务 会议 会见 机会 委会 大会 协会 议会 会谈 \
    会员 合作 合同 合理 合力 联合 结合 综合 融合 配合 符合 组合 \
    组织 组成 小组 机构 机制 机器 机关 机场 飞机 手机 危机 时机 \
    有机 计算 计划 设计 统计 预计 会计 规划 规定 规模 规律 规范 \
    法律 法规 方法 方案 方面 方式 方向 双方 各方 官方 对方 南方 \
    北方 东方 西方 政策 政治 行政 财政 制度 制定 制作 控制 限制 \
    体制 管理 治理 处理 办理 代理 理论 理解 理念 心理 物理 保护 \
    保障 保持 保证 保险 确保 环保 维护 爱护 环境 环节 循环 生态 \
    生产 生活 生物 生命 生长 生存 医生 卫生 出生 产生 产品 产权 \
    财产 资产 特产 水产 资源 资金 资本 投资 能源 来源 水源 电源 \
    能力 电力 努力 压力 潜力 实力 活力 权力 效力 吸引 引导 引进 \
    引发 引起 指引 吸收 收入 收获 收购 收集 回收 丰收 秋收 税收 \
    进入 加入 投入 深入 输入 融入 出口 进口 港口 窗口 口岸 出现 \
    出台 出版 出发 出席 出行 突出 支出 输出 演出 杰出 支持 支付 \
    支撑 坚持 主持 持续 继续 连续 手续 陆续 后续 系统 传统 统一 \
    联系 关系 体系 系列 系数 开关 海关 有关 相关 无关 关键 关注 \
    关于 关心 问题 主题 专题 话题 课题 题材 重要 重点 重大 重视 \
    严重 尊重 主要 需要 必要 要求 只要 不要 需求 追求 请求 求职 \
    特别 特点 特色 特殊 独特 区别 级别 分别 性别 个别 别人 部分 \
    部门 部署 部队 全部 内部 外部 总部 全面 全球 全市 全省 全体 \
    全程 安全 健全 完全 完成 完善 完整 成立 成为 成功 成果 成就 \
    成员 成本 形成 达成 构成 造成 促成 促进 促使 督促 消费 消息 \
    消防 取消 费用 免费 收费 学费 价格 价值 评价 物价 油价 评估 \
    评论 批评 讨论 结论 论坛 结果 结构 结束 总结 团结 团队 时代 \
    现代 替代 历史 历经 经历 经过 经验 经营 已经 曾经 通过 超过 \
    不过 过程 过去 度过 课程 流程 路程 日程 铁路 公路 道路 线路 \
    网络 网站 互联 联网 联盟 信息 信用 信任 通信 相信 诚信 利用 \
    利益 有利 胜利 便利 权利 顺利 作用 应用 使用 采用 运用 运营 \
    运行 运输 营养 营商 环比 同比 比例 比较 比赛 相比 竞赛 决赛 \
    选手 选择 选举 竞选 冠军 金牌 世界 世纪 国际 交流 交通 交易 \
    交往 外交 提交 贸易 贸区 自贸 关税 税务 金融 融资 银行 银河 \
    执行 举行 旅行 行为 旅游 游客 客户 乘客 旅客 顾客 医院 医疗 \
    医药 医保 药品 药物 食品 粮食 饮食 食堂 水平 水库 水利 水稻 \
    水果 海洋 海上 海外 海域 东海 南海 沿海 航空 航天 航班 航线 \
    卫星 火箭 空间 时间 期间 之间 中间 民间 房间 车间 汽车 列车 \
    火车 车辆 车站 停车 公交 地铁 高铁 桥梁 大桥 隧道 轨道 报道 \
    渠道 知道 报告 报名 日报 广告 公告 告诉 记者 作者 读者 患者 \
    或者 志愿 意愿 意见 意义 意识 注意 满意 同意 创意 意外 看到 \
    得到 达到 遇到 感到 受到 收到 做到 来到 到达 到来 未来 将来 \
    近年 今年 去年 明年 年度 年轻 青年 少年 多年 老年 老人 家庭 \
    大家 专家 家园 家乡 孩子 儿童 女性 男子 妇女 父母 母亲 父亲 \
    朋友 友好 友谊 良好 美好 爱好 更好 最大 扩大 巨大 伟大 大型 \
    大幅 大力 大约 模式 模型 形式 正式 仪式 公式 式样 标准 标志 \
    目标 指标 坐标 招标 指数 指导 指出 指挥 数据 数字 多数 参数 \
    根据 依据 证据 证明 证书 证券 股票 股份 股市 基金 基础 基本 \
    基层 基因 根本 本次 本报 本届 首次 首个 首先 首都 首批 每年 \
    每天 每个 各种 各类 种类 种植 物种 品种 品牌 商品 作品 植物 \
    动物 货物 筑牢 牢固 巩固 稳定 稳步 平稳 确定 决定 一定 固定 \
    认定 肯定 认为 认识 认真 认证 确认 承认 因为 作为 为了 以为 \
    人为 可能 可以 可持 智能 功能 职能 节能 性能 不能 能够 足够 \
    满足 充足 充分 充电 充满 不断 不仅 不同 不少 不足 不会 共同 \
    同时 相同 如同 同志 此外 另外 国外 户外 对外 以外 内外 内容 \
    国内 以内 境内 室内 容易 影响 响应 反应 应对 应当 应急 适应 \
    供应 效应 反映 反对 相反 违反 违法 合法 非法 司法 执法 立法 \
    依法 公安 公共 公平 公园 公里 公斤 办公 办法 举办 主办 承办 \
    协办 协议 协调 协商 建议 决议 争议 调查 调整 调控 空调 强调 \
    检查 检测 监测 监督 监管 预测 预警 预防 预算 防控 防治 预期 \
    时期 长期 近期 短期 日期 周期 学期 定期 期待 等待 待遇 招待 \
    接待 接受 接近 直接 连接 间接 迎接 对接 接种 受伤 感受 享受 \
    承受 遭受 伤亡 死亡 灾害 灾难 救灾 火灾 救援 援助 帮助 补助 \
    资助 协助 补贴 补充 弥补 贫困 困难 难题 难以 艰难 灾区 地震 \
    暴雨 台风 洪水 降雨 气候 气温 天气 空气 大气 电气 天然 自然 \
    虽然 仍然 依然 突然 当然 必然 果然 然后 以后 最后 此后 随后 \
    之后 今后 后来 落后 以来 带来 原来 本来 起来 越来 来自 自己 \
    自主 自由 自身 自信 各自 亲自 亲切 密切 一切 迫切 切实 切断 \
    中心 核心 信心 决心 爱心 放心 重心 精神 精准 精彩 精品 神话 \
    准备 准确 批准 设备 装备 具备 储备 设施 设立 设置 施行 措施 \
    采取 采访 采购 争取 获取 听取 获得 取得 赢得 值得 使得 觉得 \
    获悉 熟悉 了解 解决 解释 解放 缓解 决策 表示 表明 表演 表现 \
    显示 明显 显著 著名 有名 名单 名称 称号 号召 信号 型号 编号 \
    召集 密集 征集 征求 象征 特征 对象 现象 气象 形象 印象 想象 \
    思想 理想 梦想 设想 思路 思考 考试 考察 考虑 参考 参加 参与 \
    参观 给予 赋予 授予 与会 观察 观众 观念 观点 客观 景观 乐观 \
    地点 热点 优点 难点 试点 景点 景区 园区 山区 优势 优化 优秀 \
    优惠 优质 优先 形势 趋势 态势 局势 局面 当局 布局 格局 结局 \
    变化 变革 转变 改变 改革 改善 改进 变成 转型 转化 转移 转让 \
    绿化 深化 强化 绿色 角色 红色 颜色 出色 彩色 角度 程度 力度 \
    速度 温度 难度 季度 幅度 长度 进度 季节 细节 春节 节目 节日 \
    节约 项目 目前 目的 目光 题目 当前 之前 以前 此前 面前 前往 \
    前进 前景 背景 景色 风景 风险 危险 风力 风格 资格 严格 合格 \
    格外 表格 严肃 严峻 严厉 签署 签约 签字 约定 条约 预约 条件 \
    条例 事件 软件 硬件 零件 案件 案例 答案 档案 草案 事例 例如 \
    如果 如此 如何 任何 几何 何时 及时 时刻 时候 小时 当时 临时 \
    按时 深刻 立即 立刻 立场 现场 广场 商场 农场 工场 操场 战场 \
    战略 战争 战士 抗战 挑战 作战 竞争 斗争 战胜 冲突 突破 破坏 \
    破解 爆发 爆炸 袭击 打击 打造 打通 打开 打破 攻击 攻坚 进攻 \
    军事 军队 海军 空军 陆军 官兵 士兵 武器 武装 装置 安装 包装 \
    装修 位置 配置 单位 地位 岗位 座位 学位 方位 岗亭 座谈 谈判 \
    谈话 话语 电话 对话 语言 言论 发言 声音 声明 名声 音乐 快乐 \
    娱乐 愉快 加快 快速 尽快 快递 传递 传播 传承 宣传 继承 承担 \
    承诺 担任 担心 负担 担当 适当 适合 合适 适用 普遍 普及 普通 \
    涉及 以及 及其 其中 其他 其实 尤其 他人 个人 每人 个性 性质 \
    特性 积极 积累 面积 体积 极大 极其 南极 北极 消极 极端 端午 \
    高端 尖端 终端 终于 终身 最终 始终 原始 终止 停止 禁止 防止 \
    阻止 止步 步伐 进步 初步 逐步 同步 起步 跑步 逐渐 渐渐 逐年 \
    初期 最初 当初 起点 起到 发起 一起 兴起 掀起 兴趣 兴奋 振兴 \
    复兴 恢复 回复 反复 复杂 杂志 杂交";

/// Returns the evidence that `after` continues `before`, as the logarithm of the odds against any other continuation.
pub(crate) fn continuity(before: &str, after: &str) -> f32 {
    let (Some(last), Some(first)) = (before.chars().next_back(), after.chars().next()) else {
        return 0.0;
    };
    let is_number = |c: char| is_digit(c) || "百千万亿几".contains(c);
    if is_han(last) && is_han(first) {
        let mut word = [0u8; WORD_BYTES];
        let bytes = last.len_utf8();
        if bytes + first.len_utf8() == WORD_BYTES {
            last.encode_utf8(&mut word[..bytes]);
            first.encode_utf8(&mut word[bytes..]);
            if WORDS.as_bytes().chunks(WORD_BYTES + 1).any(|known| known.starts_with(&word)) {
                return 3.0;
            }
        }
    }
    if is_number(last)
        && ("多余个万亿百千年月日名元米吨台家条座人次倍点度岁种项亩公".contains(first) || is_number(first))
    {
        return 2.5;
    }
    if "了到达超过为至约近有是共长高第".contains(last) && is_number(first) {
        return 1.5;
    }
    0.0
}

/// Returns the evidence that `text` starts inside a sentence rather than at the beginning of a paragraph, as the logarithm
/// of the odds.
pub(crate) fn starts_mid_sentence(text: &str) -> f32 {
    match text.chars().next() {
        Some(first) if "，。、；：？！）”’」』》】…".contains(first) => 6.0,
        Some(first) if "“‘「『《（(【〔●■▲◆—①".contains(first) => -2.0,
        Some(first) if NEVER_FIRST.contains(first) => 3.0,
        Some(first) if OFTEN_FIRST.contains(first) || first.is_ascii_digit() => -1.8,
        Some(first) if is_han(first) => 0.2,
        _ => 0.0,
    }
}

/// Returns the evidence that `text`, which looks like a title, is the first part of a sentence instead, as the logarithm of
/// the odds.
pub(crate) fn ends_mid_sentence(text: &str) -> f32 {
    let last = match text.chars().next_back() {
        Some(last) if NEVER_LAST.contains(last) => 2.5,
        Some(last) if OFTEN_LAST.contains(last) || "%”》」』）".contains(last) => -1.6,
        Some(_) => 0.3,
        None => 0.0,
    };
    let count = text.chars().count();
    let mut evidence = last;
    if text.trim().contains(' ') {
        evidence -= 2.0;
    }
    if text.matches('、').count() >= 2 {
        evidence += 0.7;
    }
    if count > 26 {
        evidence += 0.8;
    }
    if opens_like_text(text) {
        evidence += 1.5;
    }
    // Headlines have no commas; headings may have one, in the middle: 一条管道，走了三年.
    if let Some((first, second)) = text.split_once('，') {
        let is_balanced = count <= 18 && first.chars().count().abs_diff(second.chars().count()) <= 2;
        evidence += if is_balanced { 0.3 } else { 3.0 };
    }
    evidence
}

/// Returns `true` if `text` begins with a word of running text: 目前, 同时, 其中.
fn opens_like_text(text: &str) -> bool {
    #[rustfmt::skip]
    const WORDS: &[&str] = &[
        "目前", "同时", "其中", "此外", "此前", "另外", "然而", "但是", "不过", "因此", "而", "但", "当日",
        "当天", "近期", "近日", "日前", "据", "对此", "随后", "截至", "他", "她", "记者在", "与此同时", "在此",
        "为此", "第一，", "一方面", "例如", "比如", "如今", "今年以来", "数据显示",
    ];
    text.starts_with(|first| "目同其此另然但不因而当近日据对随截他她记与在为第一例比如今数".contains(first))
        && WORDS.iter().any(|word| text.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_the_middle_of_a_sentence_from_a_beginning() {
        assert!(starts_mid_sentence("的土壤中生根发芽。") > 2.0);
        assert!(starts_mid_sentence("，也是民生") > 2.0);
        assert!(starts_mid_sentence("据了解，工程年底完工。") < -1.0);
        assert!(starts_mid_sentence("“今年收成好。”他说。") < -1.0);
        assert!(WORDS.split(' ').all(|word| word.len() == WORD_BYTES));
        assert!(continuity("西部地区吸", "引毕业生") > continuity("网上卖出了", "引毕业生"));
        assert!(continuity("网上卖出了", "三百多万元") > continuity("西部地区吸", "三百多万元"));
        assert!(ends_mid_sentence("近期各路资金纷纷入场，推动股市强势攀") > 3.0);
        assert!(ends_mid_sentence("全国文物普查 今天启动") < 0.0);
    }
}
